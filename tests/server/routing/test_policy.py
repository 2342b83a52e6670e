"""The policies, on views made by hand."""

from __future__ import annotations

import math

import numpy as np

from server.routing.policy import BacklogPrice, FloatArray, LookAhead, View
from tests.server.routing.parts import F1, MS

BASE = np.array([2.5, 5.0, 10.0]) * MS
F1_ARRAY = np.array(F1)


def price() -> BacklogPrice:
    return BacklogPrice(F1_ARRAY, BASE)


def view(
    policy: BacklogPrice | LookAhead, slack_ms: float, rest_slack_ms: tuple[float, ...] = (), base: FloatArray = BASE
) -> View:
    rungs = policy.ladder(base)
    rest = np.tile(BASE[policy.ladder(BASE)], (len(rest_slack_ms), 1))
    return View(
        now_ns=0,
        head_typical_ns=base,
        head_upper_ns=base * 1.1,
        head_slack_ns=slack_ms * MS,
        head_part_ns=base,
        head_strict=True,
        head_rungs=rungs,
        rest_base_ns=rest.reshape(len(rest_slack_ms), len(rungs)),
        rest_excess=np.full(len(rest_slack_ms), 0.1),
        rest_slack_ns=np.array(rest_slack_ms) * MS,
        rest_counts=np.ones(len(rest_slack_ms), dtype=np.bool_),
        factor=1.0,
    )


def test_alone_the_head_gets_the_richest_that_its_slack_holds() -> None:
    for slack_ms, wanted in ((12.0, 2), (10.9, 1), (5.4, 0), (1.0, 0)):
        policy = LookAhead(F1_ARRAY)
        assert policy.choose(view(policy, slack_ms)) == wanted, slack_ms


def test_the_look_ahead_leaves_the_same_for_everyone() -> None:
    policy = LookAhead(F1_ARRAY)
    # three others, 40 ms: 4 x 10 ms end at 40 and their tails beyond it; 4 x 5 ms are well in time
    assert policy.choose(view(policy, 40.0, (40.0, 40.0, 40.0))) == 1
    assert policy.choose(view(policy, 50.0, (50.0, 50.0, 50.0))) == 2


def test_at_one_price_the_short_text_keeps_more_than_the_long_one() -> None:
    policy = price()
    short, long = policy.ladder(BASE / 4), policy.ladder(BASE * 4)
    assert (short >= long).all()
    assert (short > long).any()
    assert (np.diff(short) >= 0).all()
    assert (short[0], short[-1]) == (0, 2)


def test_an_idle_server_gives_the_best_whatever_the_text() -> None:
    policy = price()
    for size in (0.2, 1.0, 5.0):
        assert policy.choose(view(policy, 500.0, base=BASE * size)) == 2


def test_a_load_beyond_the_engine_cheapens_before_the_slack_is_gone() -> None:
    policy = price()
    for step in range(300):  # full would need 1.5 engines
        now_ns = int(step * 10 * MS / 1.5)
        policy.arrived(BASE, math.inf, now_ns)
        policy.started(10.0 * MS, now_ns)
    chosen = policy.choose(view(policy, 90.0, (95.0,) * 6)._replace(now_ns=2000 * MS))
    assert chosen < 2


def test_those_in_a_hurry_who_may_come_meanwhile_cheapen_the_head() -> None:
    policy, calm = price(), price()
    for step in range(200):  # 50 a second, which full alone fills to a half
        policy.arrived(BASE, 1.0 * MS, step * 20 * MS)
        calm.arrived(BASE, 200.0 * MS, step * 20 * MS)
    seen = view(policy, 500.0)
    for now_ns in range(0, 4_000 * MS, 40 * MS):
        for each in (policy, calm):
            each.started(float(BASE[each.choose(seen._replace(now_ns=now_ns))]), now_ns)
    assert calm.choose(seen._replace(now_ns=4_000 * MS)) == 2
    assert policy.choose(seen._replace(now_ns=4_000 * MS)) < 2


def test_equal_f1_makes_no_price_but_still_an_answer() -> None:
    policy = BacklogPrice(np.array([70.0, 70.0, 70.0]), BASE)
    assert policy.choose(view(policy, 500.0)) in {0, 1, 2}


POOR = np.array([20.0, 70.0, 76.0])
POOR_BASE = np.array([8.0, 14.0, 20.0]) * MS
"""The second has the most F1 per second: 5 per ms; the cheapest has 2.5."""


def crowd(policy: BacklogPrice, gap_ms: float, count: int = 400) -> None:
    for number in range(count):
        policy.arrived(POOR_BASE, 50.0 * MS, round(number * gap_ms * MS))


def test_the_floor_is_the_rung_of_the_most_f1_per_second() -> None:
    for cost, wanted in ((0.0, 1), (1000.0, 0)):
        policy = BacklogPrice(POOR, POOR_BASE, refusal_cost=cost)
        assert policy.ladder(POOR_BASE)[policy.floor] == wanted
    assert LookAhead(POOR).floor == 0


def test_of_rungs_with_nearly_the_most_f1_per_second_the_floor_is_the_dearest() -> None:
    for cheapest_f1, wanted in ((38.4, 1), (39.4, 0)):  # 4.8 and 4.925 per ms; the most is 5, at 14 ms
        policy = BacklogPrice(np.array([cheapest_f1, 70.0, 76.0]), POOR_BASE)
        assert policy.ladder(POOR_BASE)[policy.floor] == wanted


def test_under_load_a_text_with_less_f1_per_second_may_use_less_of_the_time_that_it_could_wait() -> None:
    own_ns = float(POOR_BASE[1])
    for gap_ms, wanted in ((4.0, 0.25), (1000.0, 1.0)):
        policy = BacklogPrice(POOR, POOR_BASE)
        crowd(policy, gap_ms)
        assert math.isclose(policy.share_of_wait(1, own_ns * 4, 1.0), wanted, rel_tol=0.05), gap_ms
        assert policy.share_of_wait(1, own_ns, 1.0) == policy.share_of_wait(1, own_ns / 3, 1.0) == 1.0
    assert LookAhead(POOR).share_of_wait(1, 1e12, 1.0) == 1.0


def test_the_engine_has_time_to_spare_up_to_full_load_at_the_floor() -> None:
    for gap_ms, wanted in ((20.0, True), (10.0, False)):  # 14 ms each at the floor
        policy = BacklogPrice(POOR, POOR_BASE)
        crowd(policy, gap_ms)
        assert policy.spares(1.0) is wanted, gap_ms
        assert not policy.spares(2.0)
    assert not LookAhead(POOR).spares(1.0)


def test_a_forecast_asks_for_no_price_above_the_floor_but_a_promise_does() -> None:
    policy = BacklogPrice(POOR, POOR_BASE)
    crowd(policy, 4.0)  # three and a half times what the engine has at the floor
    assert policy.choose(view(policy, 60.0, base=POOR_BASE)) == 1
    assert policy.choose(view(policy, 12.0, base=POOR_BASE)) == 0  # 14 ms would be late
