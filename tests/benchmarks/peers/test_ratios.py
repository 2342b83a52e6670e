"""Ratios by hand, their intervals, and the limits on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.peers import ratios
from benchmarks.peers.ratios import Limits
from benchmarks.peers.systems import within
from model_store import LengthConfiguration, ParetoPoint, ParetoTable, full_configuration

KNOWN: dict[str, float | None] = {
    "bert_fp32/full": 25.0,
    "bert_fp32/within1": 35.0,
    "bert_int8/full": 5.0,
    "bert_int8/within1": 7.5,
    "ort_int8/full": 1.4,
    "ort_int8/within1": 1.9,
    "dynamic/static": 1.1,
}


def ns(*runs: list[int]) -> Any:
    return np.array(runs, dtype=np.int64)


def test_a_ratio_is_of_the_sums_of_each_questions_median_over_the_runs() -> None:
    slow = ns([10, 40], [30, 40], [20, 400])  # medians 20, 40
    fast = ns([5, 10], [5, 10], [500, 1])  # medians 5, 10
    found = ratios.ratio(slow, fast)
    assert found.value == 4.0
    assert found.runs == pytest.approx((50 / 15, 70 / 15, 420 / 501))


def test_the_interval_draws_both_times_of_a_question_together() -> None:
    fast = ns([1, 10, 100, 1000] * 5)
    found = ratios.ratio(3 * fast, fast)
    assert (found.low, found.value, found.high) == (3.0, 3.0, 3.0)
    uneven = ratios.ratio(fast * ns([1, 2] * 10), fast)
    assert 1.0 < uneven.low < uneven.value < uneven.high < 2.0
    assert uneven == ratios.ratio(fast * ns([1, 2] * 10), fast)


@pytest.mark.parametrize(("slow", "fast"), [(ns([1, 2]), ns([1])), (ns([]), ns([]))])
def test_a_ratio_is_of_the_same_questions(slow: Any, fast: Any) -> None:
    with pytest.raises(ValueError, match="same runs and questions"):
        ratios.ratio(slow, fast)


def test_a_ratio_with_a_system_that_was_left_out_is_unknown() -> None:
    times = {"openvino/full": ns([1, 2]), "static": ns([1, 1]), "ort_int8": ns([3, 3]), "openvino/c01": ns([1, 1])}
    found = ratios.ratios(times, "c01")
    values = {name: each and each.value for name, each in found.items()}
    assert values == {
        **dict.fromkeys(KNOWN),
        "static/full": 2 / 3,
        "ort_int8/full": 2.0,
        "ort_int8/within1": 3.0,
        "dynamic/static": 1.5,
    }


def test_ratios_are_of_the_native_engine_where_it_is_there() -> None:
    times = {
        name: ns([value]) for name, value in {"openvino/full": 4, "native/full": 2, "static": 2, "bert_fp32": 8}.items()
    }
    found = {name: each.value for name, each in ratios.ratios(times, "c01").items() if each}
    assert found == {"bert_fp32/full": 4.0, "static/full": 1.0, "dynamic/static": 2.0}


def test_percentiles_are_of_all_runs_and_questions_per_second_of_their_mean() -> None:
    found = ratios.percentiles_ms(ns([1_000_000, 2_000_000], [3_000_000, 4_000_000]))
    assert found == {"p50_ms": 2.5, "p95_ms": 3.85, "p99_ms": 3.97, "questions_per_second": 400.0}


def test_the_peak_share_is_the_median_of_the_runs_each_with_its_own_fastest_product() -> None:
    full, peak = ns([10, 10], [20, 20], [10, 30]), ns([4, 5], [8, 9], [4, 4])
    share, fastest = ratios.peak_share(full, 100.0, peak, 40.0)  # 5 of 10, 2.5 of 5, 2.5 of 10
    assert (share, fastest) == (0.5, 10.0)


def test_limits_hold_at_the_bound() -> None:
    assert ratios.breaches(KNOWN, Limits()) == []


@pytest.mark.parametrize("name", KNOWN)
def test_each_limit_is_named_when_broken_and_when_nothing_is_known(name: str) -> None:
    value = KNOWN[name]
    assert value is not None
    worse = value + 0.01 if name == "dynamic/static" else value - 0.01
    for other, words in ((worse, f"{name} is"), (None, f"{name} was not measured")):
        (breach,) = ratios.breaches({**KNOWN, name: other}, Limits())
        assert breach.startswith(words)


@pytest.mark.parametrize(("f1", "expected"), [((70.0, 79.0), "c01"), ((79.0, 79.5), "c02"), ((78.9, 78.99), "full")])
def test_within1_is_the_cheapest_point_at_most_one_point_of_f1_below_full(
    f1: tuple[float, float], expected: str
) -> None:
    points = (
        ParetoPoint(LengthConfiguration("c02", (0.5, 0.2)), 1.0, f1[0], 50.0),
        ParetoPoint(LengthConfiguration("c01", (0.9, 0.5)), 2.0, f1[1], 50.0),
        ParetoPoint(full_configuration(2), 3.0, 80.0, 50.0),
    )
    assert within(ParetoTable(points, mean_real_length=100.0)) == expected
