from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trend import last_half_trend

COUNTS = list(range(50, 2001, 50))


def test_slope_is_in_mb_per_thousand_requests_and_exact_on_a_line() -> None:
    found = last_half_trend(COUNTS, [300 + 0.02 * count for count in COUNTS])
    assert found.slope == pytest.approx(20.0)
    assert found.standard_error == pytest.approx(0.0, abs=1e-9)
    assert found.growth == pytest.approx(20.0)
    assert found.is_growing


def test_slope_and_standard_error_are_those_of_least_squares() -> None:
    found = last_half_trend([1000, 1500, 2000], [1.0, 4.0, 4.0])
    assert found.slope == pytest.approx(3.0)  # thousands 1, 1.5, 2
    assert found.standard_error == pytest.approx(np.sqrt(1.5 / 0.5))  # residuals -0.5, 1, -0.5; one degree of freedom


def test_only_the_last_half_counts() -> None:
    found = last_half_trend(COUNTS, [100.0 if count < 1000 else 400.0 for count in COUNTS])
    assert found.slope == pytest.approx(0.0, abs=1e-9)
    assert found.growth == 0.0
    assert not found.is_growing


def test_less_than_the_noise_is_no_growth_however_steady() -> None:
    assert not last_half_trend(COUNTS, [300 + 0.004 * count for count in COUNTS]).is_growing


def test_a_jump_at_the_end_without_a_trend_is_no_growth() -> None:
    noise = np.random.default_rng(0).normal(0, 40, len(COUNTS))
    noise[-1] = noise[COUNTS.index(1000)] + 6
    assert not last_half_trend(COUNTS, (400 + noise).tolist()).is_growing


@pytest.mark.parametrize(
    ("counts", "memory"), [([], []), ([1, 2], [1.0]), ([2, 1, 3], [1.0, 1.0, 1.0]), ([50, 100], [1.0, 1.0])]
)
def test_readings_without_a_trend_are_refused(counts: list[int], memory: list[float]) -> None:
    with pytest.raises(ValueError, match="readings"):
        last_half_trend(counts, memory)
