"""The share above the threshold is what was promised, whatever comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.quantile import QuantileTracker


def test_a_miss_lifts_the_threshold_and_a_hit_lowers_it_a_little() -> None:
    tracker = QuantileTracker(1.5, miss=0.1, gain=0.2)
    tracker.observe(2.0)
    assert tracker.value == pytest.approx(1.5 * math.exp(0.2 * 0.9))
    tracker.observe(1.0)
    assert tracker.value == pytest.approx(1.5 * math.exp(0.2 * 0.8))


@given(st.integers(0, 10), st.sampled_from([0.02, 0.1, 0.3]), st.floats(0.02, 0.3))
def test_the_share_of_misses_keeps_to_its_bound(seed: int, miss: float, gain: float) -> None:
    ratios = np.random.default_rng(seed).lognormal(0.0, 0.2, 3_000)
    tracker = QuantileTracker(1.1, miss=miss, gain=gain, floor=0.2, ceiling=5.0)
    misses = 0
    for ratio in ratios:
        misses += ratio > tracker.value
        tracker.observe(float(ratio))
    bound = (math.log(5.0 / 0.2) + gain) / (gain * len(ratios))
    assert abs(misses / len(ratios) - miss) <= bound


def test_a_shift_of_the_ratios_is_followed() -> None:
    tracker = QuantileTracker(1.1, miss=0.05, gain=0.1)
    draws = np.random.default_rng(0).lognormal(math.log(1.6), 0.05, 2_000)
    for ratio in draws:
        tracker.observe(float(ratio))
    late = np.mean(draws[1_000:] > tracker.value)
    assert 1.6 < tracker.value < 2.2
    assert late < 0.1


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_ratio_changes_nothing(ratio: float) -> None:
    tracker = QuantileTracker(1.3, miss=0.1)
    tracker.observe(ratio)
    assert (tracker.value, tracker.count) == (1.3, 0)


@given(st.lists(st.floats(1e-3, 1e3), max_size=50))
def test_the_threshold_stays_within_its_bounds(ratios: list[float]) -> None:
    tracker = QuantileTracker(1.3, miss=0.1, gain=1.0, floor=1.02, ceiling=4.0)
    for ratio in ratios:
        tracker.observe(ratio)
        assert 1.02 - 1e-9 <= tracker.value <= 4.0 + 1e-9


@pytest.mark.parametrize("changes", [{"miss": 0.0}, {"miss": 1.0}, {"miss": 0.1, "floor": 3.0, "ceiling": 2.0}])
def test_contradictions_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        QuantileTracker(1.3, **changes)
