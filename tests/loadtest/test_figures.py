from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures import drift, percentile, percentiles, summary, wilson
from loadtest.outcomes import Outcome, Reply
from tests.loadtest.makers import judged


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.1, 1.0), (0.5, 5.0), (0.51, 6.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_percentiles_by_hand(share: float, expected: float) -> None:
    assert percentile([float(each) for each in range(1, 11)], share) == expected


@given(values=st.lists(st.floats(0, 1e6), min_size=1), share=st.floats(0.001, 1))
def test_a_percentile_was_observed_and_is_the_least_that_covers(values: list[float], share: float) -> None:
    ascending = sorted(values)
    found = percentile(ascending, share)
    assert found in values
    assert sum(each <= found for each in values) >= share * len(values) - 1e-6
    assert sum(each < found for each in values) < share * len(values) + 1e-6


def test_latencies_are_not_rounded_and_what_is_infinite_is_none() -> None:
    found = percentiles([123.456789, 1.0, 2.0, math.inf])
    assert found["p50"] == 2.0
    assert found["p90"] is None
    assert found["max"] is None
    assert percentiles([123.456789])["p99"] == 123.456789
    assert set(percentiles([]).values()) == {None}


def test_wilson_by_hand() -> None:
    low, high = wilson(8, 10)  # the textbook's example
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_summary_by_hand() -> None:
    late = Reply(200, said_met=True)
    requests = [
        judged(10.0, f1=1.0),
        judged(20.0, f1=0.5),
        judged(150.0, Outcome.SERVED_LATE, f1=1.0, reply=late),
        judged(1.0, Outcome.REJECTED_OVERLOAD, f1=0.0, reply=Reply(503)),
    ]
    found = summary(requests, seconds=2.0)
    assert found["offered"] == 4
    assert found["offered_rate"] == 2.0
    assert found["slo_attainment"] == 0.5
    assert found["goodput"] == 1.0
    assert found["effective_f1"] == 37.5  # (1 + 0.5 + 0 + 0) / 4: late and refused count 0
    assert found["answered_f1"] == pytest.approx(250 / 3)
    assert found["expected_f1"] == 80.0
    assert found["late_but_said_met"] == 1
    assert found["outcomes"]["served_in_budget"] == 2
    assert sum(found["outcomes"].values()) == 4
    assert found["latency_ms"]["p50"] == 20.0
    assert found["latency_ms"]["max"] == 150.0
    assert found["latency_of_all_ms"]["p50"] == 20.0
    assert found["latency_of_all_ms"]["p90"] is None
    assert found["latency_from_sending_ms"]["p50"] == 19.5


def test_of_nothing_there_are_no_shares() -> None:
    found = summary([], 1.0)
    assert (found["offered"], found["slo_attainment"], found["effective_f1"]) == (0, None, None)


def test_drift_compares_the_last_quarter_with_the_first() -> None:
    requests = [judged(10.0 if place < 20 else 15.0, at=float(place)) for place in range(40)]
    assert drift(requests) == 1.5
    assert drift(requests[:39]) is None
