"""Load and hurry, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from server.routing.demand import Demand, Hurry
from tests.server.routing.parts import MS, SECOND


def busy_second(demand: Demand, gap_ms: int, times_ms: list[float], busy_ms: float, seconds: int = 8) -> None:
    """One request every `gap_ms`, and as often an inference of `busy_ms`."""
    for now_ms in range(0, 1_000 * seconds, gap_ms):
        demand.busy(busy_ms * MS, now_ms * MS)
        demand.observe(np.array(times_ms) * MS, now_ms * MS)


def test_a_steady_stream_is_its_own_load() -> None:
    demand = Demand(2, SECOND)
    busy_second(demand, 20, [10.0, 20.0], busy_ms=20.0)
    assert [demand.load(rung) for rung in range(2)] == pytest.approx([0.5, 1.0], rel=0.05)


def test_those_who_find_the_engine_free_are_no_load_that_lasts() -> None:
    demand = Demand(1, SECOND)
    for now_ms in range(0, 8_000, 10):  # one after the other, as fast as can be
        demand.observe(np.array([10.0 * MS]), now_ms * MS, busy=False)
        demand.busy(10.0 * MS, now_ms * MS)
    assert demand.load(0) == 0.0


def test_a_burst_is_not_taken_for_the_mean() -> None:
    demand = Demand(1, SECOND)
    for second in range(8):  # ten at once, each second
        for _ in range(10):
            demand.observe(np.array([10.0 * MS]), second * SECOND)
            demand.busy(10.0 * MS, second * SECOND)
    assert demand.load(0) < 0.2


def test_a_request_that_is_already_there_is_not_expected_again() -> None:
    demand = Demand(1, SECOND)
    demand.observe(np.array([10_000.0 * MS]), 0)
    assert demand.load(0) > 0.2
    assert demand.load(0, 10_000.0 * MS) == 0.0


def test_a_stream_that_ended_is_forgotten() -> None:
    demand = Demand(1, SECOND)
    busy_second(demand, 20, [20.0], busy_ms=20.0, seconds=2)
    for now_ms in range(2_000, 8_000, 20):
        demand.busy(20.0 * MS, now_ms * MS)
    assert demand.load(0) < 0.01


def test_nothing_offered_is_no_load() -> None:
    assert Demand(3, SECOND).load(2) == 0.0


def test_who_can_wait_as_long_as_an_inference_takes_is_never_refused_by_it() -> None:
    hurry = Hurry(SECOND)
    for step in range(100):
        hurry.busy(10.0 * MS, step * 10 * MS)
        hurry.observe(30.0 * MS, step * 10 * MS)
    assert hurry.refused_by(np.array([10.0, 30.0]) * MS, SECOND).tolist() == [0.0, 0.0]


def test_those_who_come_while_too_much_is_left_are_refused() -> None:
    hurry = Hurry(SECOND)
    for step in range(100):  # one in 10 ms of busy time that may wait 5 ms: half of them come too early for 10 ms
        hurry.busy(10.0 * MS, step * 10 * MS)
        hurry.observe(5.0 * MS, step * 10 * MS)
    assert hurry.refused_by(np.array([4.0, 10.0, 20.0]) * MS, SECOND) == pytest.approx([0.0, 0.5, 1.5], rel=0.02)


def test_the_rate_is_per_busy_time() -> None:
    hurry = Hurry(SECOND)
    for step in range(100):  # half of the time idle: twice as many per busy time
        hurry.busy(5.0 * MS, step * 10 * MS)
        hurry.observe(5.0 * MS, step * 10 * MS)
    assert hurry.refused_by(np.array([10.0 * MS]), SECOND) == pytest.approx([1.0], rel=0.02)


@pytest.mark.parametrize("may_wait", [math.inf, -1.0])
def test_who_has_all_the_time_or_is_too_late_already_is_in_no_hurry(may_wait: float) -> None:
    hurry = Hurry(SECOND)
    hurry.observe(may_wait, 0)
    assert hurry.refused_by(np.array([50.0 * MS]), SECOND).tolist() == [0.0]


def test_old_hurry_is_forgotten() -> None:
    hurry = Hurry(SECOND)
    hurry.observe(0.0, 0)
    assert hurry.refused_by(np.array([50.0 * MS]), 3 * SECOND).tolist() == [0.0]
