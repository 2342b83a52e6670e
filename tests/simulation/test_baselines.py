from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.simulation.baselines import Clipper, Fixed, SlackFit, fitting
from benchmarks.simulation.intervals import Infaas, LoadMeter, Proteus, best_split
from server.routing.policy import View
from tests.simulation.worlds import F1, MS, MS_PER_100_TOKENS

FULL_F1 = np.array(F1)
TIMES = np.array(MS_PER_100_TOKENS) * MS
SECOND = 1000 * MS


def view(slack_ms: float, *, strict: bool = True, rung: int = 0) -> View:
    """A head of 100 tokens, nobody behind it."""
    return View(
        now_ns=0,
        head_typical_ns=TIMES,
        head_upper_ns=TIMES,
        head_slack_ns=slack_ms * MS,
        head_part_ns=np.array(TIMES),
        head_strict=strict,
        head_rungs=np.array([rung]),
        rest_base_ns=np.zeros((0, 1)),
        rest_excess=np.zeros(0),
        rest_slack_ns=np.zeros(0),
        rest_counts=np.zeros(0, dtype=np.bool_),
        factor=1.0,
    )


def test_fixed_has_one_configuration_and_is_admitted_by_it() -> None:
    policy = Fixed(1)
    assert policy.ladder(TIMES).tolist() == [1]
    assert policy.choose(view(0.1)) == 1
    assert policy.choose(view(1e6)) == 1


@pytest.mark.parametrize(("rate", "wanted"), [(99.0, 2), (100.0, 2), (120.0, 1), (200.0, 0), (1000.0, 0)])
def test_clockwork_is_given_the_richest_that_carries_the_load(rate: float, wanted: int) -> None:
    assert fitting(TIMES, rate) == wanted


@pytest.mark.parametrize(
    ("slack_ms", "wanted"),
    [(3.0, 0), (4.0, 0), (6.9, 0), (7.0, 1), (9.9, 1), (10.0, 2), (500.0, 2)],
)
def test_slackfit_takes_the_bucket_just_below_the_slack(slack_ms: float, wanted: int) -> None:
    assert SlackFit(FULL_F1, buckets=2).choose(view(slack_ms)) == wanted  # edges at 4, 7 and 10 ms


def test_slackfit_may_stay_below_what_would_fit_as_its_buckets_are_coarse() -> None:
    assert SlackFit(FULL_F1, buckets=1).choose(view(9.9)) == 0  # edges at 4 and 10 ms


def test_slackfit_gives_the_richest_to_those_without_a_budget() -> None:
    assert SlackFit(FULL_F1).choose(view(1.0, strict=False)) == 2


def test_clipper_falls_by_a_factor_and_climbs_by_a_step() -> None:
    policy = Clipper(FULL_F1, step=0.5, backoff=0.5)
    assert policy.choose(view(20.0)) == 2
    assert policy.level == 2.0
    assert policy.choose(view(7.5)) == 1  # full would be late: level 1.0, which fits
    assert policy.level == 1.0
    assert policy.choose(view(3.0)) == 0  # late anyway
    assert policy.level == 0.5
    assert [policy.choose(view(20.0)) for _ in range(4)] == [0, 1, 1, 2]
    assert policy.level == 2.0


def test_clipper_leaves_the_level_to_those_with_a_budget() -> None:
    policy = Clipper(FULL_F1)
    policy.level = 1.5
    assert policy.choose(view(0.1, strict=False)) == 1
    assert policy.level == 1.5


def test_the_meter_reports_each_interval_once() -> None:
    meter = LoadMeter(3)
    assert [meter.arrived(TIMES, i * SECOND // 4) for i in range(4)] == [None] * 4
    first = meter.arrived(TIMES, SECOND)  # four requests in one second
    assert first is not None
    assert first.tolist() == pytest.approx([0.016, 0.028, 0.040])
    assert meter.arrived(TIMES, 10 * SECOND) is None
    second = meter.arrived(TIMES, 11 * SECOND)  # the one at 1 s and the one at 10 s, in ten seconds
    assert second is not None
    assert second.tolist() == pytest.approx([0.0008, 0.0014, 0.0020])


def test_the_meter_takes_the_host_as_slow_as_it_is_predicted() -> None:
    meter = LoadMeter(3)
    meter.arrived(TIMES, 0)
    meter.factor = 2.0
    load = meter.arrived(TIMES, SECOND)
    assert load is not None
    assert load.tolist() == pytest.approx([0.008, 0.014, 0.020])


@pytest.mark.parametrize(
    ("load", "wanted"),
    [
        ([0.2, 0.4, 0.5], [0.0, 0.0, 1.0]),
        ([0.4, 0.7, 1.0], [0.0, 0.0, 1.0]),
        ([0.6, 0.9, 1.1], [0.0, 0.5, 0.5]),
        ([0.8, 1.2, 1.5], [0.5, 0.5, 0.0]),
        ([1.1, 1.5, 2.0], [1.0, 0.0, 0.0]),
        ([0.5, 1.4, 1.5], [0.5, 0.0, 0.5]),  # the middle one lies below the hull
    ],
)
def test_proteus_splits_between_neighbours_on_the_hull(load: list[float], wanted: list[float]) -> None:
    assert best_split(FULL_F1, np.array(load)).tolist() == pytest.approx(wanted)


def test_proteus_keeps_its_shares_and_gives_the_variant_at_arrival() -> None:
    policy = Proteus(FULL_F1)
    assert policy.ladder(TIMES).tolist() == [2]
    policy.shares = np.array([0.25, 0.75, 0.0])
    given = []
    for i in range(8):
        policy.arrived(TIMES, math.inf, i)
        given.append(int(policy.ladder(TIMES)[0]))
    assert sorted(given) == [0, 0, 1, 1, 1, 1, 1, 1]
    assert given[:4].count(0) == 1
    assert policy.choose(view(1.0, rung=1)) == 1


def test_proteus_chooses_again_after_one_second_and_then_every_ten() -> None:
    policy = Proteus(FULL_F1)
    for i in range(121):  # 120 per second: full and c01 can carry 100 and 143
        policy.arrived(TIMES, math.inf, i * SECOND // 120)
    expected = best_split(FULL_F1, TIMES * 120 / SECOND)
    assert policy.shares.tolist() == pytest.approx(expected.tolist())
    assert 0 < expected[1] < 1
    assert 0 < expected[2] < 1
    policy.arrived(TIMES, math.inf, 10 * SECOND)
    assert policy.shares.tolist() == pytest.approx(expected.tolist())
    policy.arrived(TIMES, math.inf, 11 * SECOND)
    assert policy.shares.tolist() == [0.0, 0.0, 1.0]


def test_infaas_takes_what_the_load_allows_and_the_deadline_permits() -> None:
    policy = Infaas(FULL_F1)
    assert policy.choose(view(50.0)) == 2
    for i in range(121):
        policy.arrived(TIMES, math.inf, i * SECOND // 120)
    assert policy.most == 1
    assert policy.choose(view(50.0)) == 1
    assert policy.choose(view(6.0)) == 0
    assert policy.choose(view(1.0)) == 0
    assert policy.choose(view(1.0, strict=False)) == 1
