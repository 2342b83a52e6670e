"""Load and hurry, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from server.routing.demand import Demand, Hurry
from tests.server.routing.parts import MS, SECOND


def test_a_steady_stream_is_its_own_load() -> None:
    demand = Demand(2, SECOND)
    for step in range(400):  # 50 a second, of 10 and 20 ms
        demand.observe(np.array([10.0 * MS, 20.0 * MS]), step * 20 * MS)
    assert demand.load(400 * 20 * MS) == pytest.approx([0.5, 1.0], rel=0.05)


def test_the_first_second_is_not_underestimated() -> None:
    demand = Demand(1, SECOND)
    for step in range(25):
        demand.observe(np.array([10.0 * MS]), step * 20 * MS)
    assert demand.load(500 * MS) == pytest.approx([0.5], rel=0.1)


def test_a_stream_that_ended_is_forgotten() -> None:
    demand = Demand(1, SECOND)
    for step in range(100):
        demand.observe(np.array([10.0 * MS]), step * 20 * MS)
    assert demand.load(2 * SECOND + 5 * SECOND)[0] < 0.01


def test_nothing_offered_is_no_load() -> None:
    assert Demand(3, SECOND).load(SECOND).tolist() == [0.0, 0.0, 0.0]


def test_who_can_wait_as_long_as_an_inference_takes_is_never_refused_by_it() -> None:
    hurry = Hurry(SECOND)
    for step in range(100):
        hurry.observe(30.0 * MS, step * 10 * MS)
    assert hurry.refused_by(np.array([10.0, 30.0]) * MS, SECOND).tolist() == [0.0, 0.0]


def test_those_who_come_while_too_much_is_left_are_refused() -> None:
    hurry = Hurry(SECOND)
    for step in range(101):  # 100 a second that may wait 5 ms: 1 comes in 10 ms, half of that time too early
        hurry.observe(5.0 * MS, step * 10 * MS)
    assert hurry.refused_by(np.array([4.0, 10.0, 20.0]) * MS, SECOND) == pytest.approx([0.0, 0.5, 1.5], rel=0.02)


@pytest.mark.parametrize("may_wait", [math.inf, -1.0])
def test_who_has_all_the_time_or_is_too_late_already_is_in_no_hurry(may_wait: float) -> None:
    hurry = Hurry(SECOND)
    hurry.observe(may_wait, 0)
    assert hurry.refused_by(np.array([50.0 * MS]), SECOND).tolist() == [0.0]


def test_old_hurry_is_forgotten() -> None:
    hurry = Hurry(SECOND)
    hurry.observe(0.0, 0)
    assert hurry.refused_by(np.array([50.0 * MS]), 3 * SECOND).tolist() == [0.0]
