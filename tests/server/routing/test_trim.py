"""The slow loop's trim: converges on a drift, believes only sound readings, stays within its bounds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.trim import Trim

MANY = 10_000


def after(trim: Trim, medians: list[float]) -> float:
    for number, median in enumerate(medians, 1):
        trim.update(median, MANY, number)
    return trim.value


def test_the_trim_starts_at_1() -> None:
    trim = Trim()
    assert (trim.value, trim.updated_ns, trim.at_bound) == (1.0, None, False)


def test_an_update_goes_the_gains_share_of_the_way_in_logarithms() -> None:
    assert Trim(gain=0.3).update(1.6, MANY, 1) == pytest.approx(1.6**0.3)


@pytest.mark.parametrize("drift", [1.6, 1 / 1.6, 1.1, 1.0])
def test_a_drift_is_met_within_10_percent_after_5_updates_and_kept(drift: float) -> None:
    trim = Trim()
    assert after(trim, [drift] * 5) == pytest.approx(drift, rel=0.1)
    assert after(trim, [drift] * 60) == pytest.approx(drift, rel=1e-3)


@given(drift=st.floats(0.5, 2), gain=st.floats(0.01, 1))
def test_it_never_goes_past_a_steady_median(drift: float, gain: float) -> None:
    trim, remainder = Trim(gain=gain), abs(math.log(drift))
    for number in range(50):
        trim.update(drift, MANY, number)
        left = math.log(drift / trim.value)
        assert abs(left) <= remainder + 1e-12
        assert left * math.log(drift) >= -1e-9
        remainder = abs(left)


def test_noise_of_the_median_is_damped() -> None:
    source = random.Random(3)
    trim = Trim()
    values = [trim.update(1.6 * math.exp(source.gauss(0, 0.1)), MANY, number) for number in range(1000)][50:]
    spread = math.sqrt(sum(math.log(value / 1.6) ** 2 for value in values) / len(values))
    assert spread < 0.06


def test_readings_that_lag_do_not_make_it_swing() -> None:
    trim, drifts = Trim(), [1.0] * 10 + [1.6] * 60
    values = [trim.update(drifts[max(0, number - 10)], MANY, number) for number in range(70)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1.6, rel=0.01)


@pytest.mark.parametrize(("drift", "bound"), [(9.0, 2.0), (0.01, 0.5), (1e300, 2.0), (5e-324, 0.5)])
def test_it_stops_at_its_bounds_and_says_so(drift: float, bound: float) -> None:
    trim = Trim()
    assert after(trim, [drift] * 20) == bound
    assert trim.at_bound


def test_it_leaves_a_bound_again() -> None:
    trim = Trim()
    after(trim, [9.0] * 20)
    assert trim.update(1.0, MANY, 100) == pytest.approx(2**0.7)
    assert not trim.at_bound


@pytest.mark.parametrize("median", [None, math.nan, math.inf, -math.inf, 0.0, -1.6])
def test_a_median_that_makes_no_sense_changes_nothing(median: float | None) -> None:
    trim = Trim()
    trim.update(1.6, MANY, 1)
    value = trim.value
    assert not trim.believes(median, MANY)
    assert trim.update(median, MANY, 2) == value
    assert trim.updated_ns == 1


@pytest.mark.parametrize("samples", [0.0, 99.9, -1.0, math.nan, math.inf])
def test_too_few_samples_change_nothing(samples: float) -> None:
    assert Trim(least_samples=100).update(1.6, samples, 1) == 1.0


def test_a_reading_not_newer_than_the_last_changes_nothing() -> None:
    trim = Trim()
    value = trim.update(1.6, MANY, 5)
    assert trim.update(1.6, MANY, 5) == value
    assert trim.update(1.6, MANY, 4) == value


@given(st.lists(st.tuples(st.none() | st.floats(), st.floats(), st.integers(0, 100))))
def test_whatever_is_read_the_trim_stays_within_its_bounds(readings: list[tuple[float | None, float, int]]) -> None:
    trim = Trim()
    for median, samples, now_ns in readings:
        assert 0.5 <= trim.update(median, samples, now_ns) <= 2


@pytest.mark.parametrize(
    "options", [{"gain": 0.0}, {"gain": 1.1}, {"low": 0.0}, {"low": 1.1}, {"high": 0.9}, {"high": math.inf}]
)
def test_impossible_parameters_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Trim(**options)
