from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation.adapter import ServerRouter, own_policy
from benchmarks.simulation.baselines import Clipper, Fixed, SlackFit
from benchmarks.simulation.host import Host
from benchmarks.simulation.intervals import Infaas, Proteus
from benchmarks.simulation.loop import simulate
from benchmarks.simulation.oracle import bound, overloaded, total_bound
from benchmarks.simulation.scores import score
from tests.simulation.worlds import F1, MS, MS_PER_100_TOKENS, asked, world

Requests = list[tuple[float, float | None]]
TIMES = np.array(MS_PER_100_TOKENS) * MS
DENSE = 4000


def best_by_trying(requests: Requests) -> float:
    """Mean F1 of the best schedule without preemption, by trying all orders and configurations."""
    best = 0.0
    for chosen in product((None, 0, 1, 2), repeat=len(requests)):
        runs = [i for i, each in enumerate(chosen) if each is not None]
        worth = sum(F1[each] for each in chosen if each is not None)
        if worth > best and any(_feasible(order, chosen, requests) for order in permutations(runs)):
            best = worth
    return best / len(requests)


def _feasible(order: tuple[int, ...], chosen: tuple[int | None, ...], requests: Requests) -> bool:
    now = 0.0
    for i in order:
        arrival, budget = requests[i]
        index = chosen[i]
        assert index is not None
        now = max(now, arrival) + MS_PER_100_TOKENS[index]
        if budget is not None and now > arrival + budget:
            return False
    return True


@pytest.mark.parametrize(
    ("requests", "f1", "served"),
    [
        ([(0.0, 10.0)], 80.0, 100.0),
        ([(0.0, 9.0)], 70.0, 100.0),  # full does not fit; nothing is mixed with what does not fit
        ([(0.0, 3.0)], 0.0, 0.0),
        ([(0.0, 11.0), (0.0, 11.0)], 60.0, 100.0),  # 4 + 7 ms: exact
        ([(0.0, 14.0), (0.0, 14.0)], 70.0, 100.0),
        ([(0.0, 20.0), (0.0, 20.0), (50.0, 10.0)], 80.0, 100.0),
        ([(0.0, 6.0), (0.0, 6.0)], 37.5, 75.0),  # 4 ms of c02 for one, 2 ms of half a c02 for the other
        ([(0.0, None), (0.0, None)], 80.0, 100.0),
        ([(0.0, 100.0), (90.0, 10.0)], 80.0, 100.0),
    ],
)
def test_the_optimum_of_small_cases(requests: Requests, f1: float, served: float) -> None:
    found = bound(asked(requests), world(), prices=DENSE)
    assert found == pytest.approx((f1, served), abs=0.05)


def test_a_slow_host_can_do_half() -> None:
    trace = asked([(0.0, 15.0), (0.0, 15.0)], host=Host(8 * MS))  # 8 ms at full speed, 7 at half: 11.5 ms of work
    assert bound(trace, world(), prices=DENSE)[0] == pytest.approx((50 + 70 + 0.5 * 20 / 3) / 2, abs=0.05)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(1, 30))).map(
            lambda pair: (float(pair[0]), None if pair[1] is None else float(pair[1]))
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_schedule_at_all_beats_it(requests: Requests) -> None:
    requests = sorted(requests, key=lambda each: each[0])
    assert bound(asked(requests), world())[0] >= best_by_trying(requests) - 1e-6


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 40)), min_size=1, max_size=30),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_no_policy_beats_it(gaps_and_budgets: list[tuple[int, int]], seed: int) -> None:
    here = world(residuals=(0.9, 1.0, 1.0, 1.4))
    arrivals = np.cumsum([gap for gap, _ in gaps_and_budgets])
    trace = asked([(float(at), float(budget)) for at, (_, budget) in zip(arrivals, gaps_and_budgets, strict=True)])
    trace.residual[:] = np.random.default_rng(seed).choice([0.9, 1.0, 1.4], size=len(trace))
    most_f1, most_served = bound(trace, here)
    f1 = here.f1
    for policy in (own_policy(here), Fixed(0), Fixed(2), SlackFit(f1), Proteus(f1), Infaas(f1), Clipper(f1)):
        found = score(trace, simulate(trace, here, ServerRouter(here, policy)), here)
        assert found.effective_f1 <= most_f1 + 1e-6
        assert found.slo_attainment <= most_served + 1e-6


def test_more_prices_tighten_it() -> None:
    random = np.random.default_rng(0)
    release = np.sort(random.uniform(0, 400, 60))
    due = release + random.uniform(5, 60, 60)
    times = np.array(MS_PER_100_TOKENS) * random.uniform(0.5, 2.0, (60, 1))
    totals = [total_bound(release, due, times, np.array(F1), prices=each) for each in (10, 40, 160, 640)]
    assert totals[0] > totals[1] > totals[2]
    assert totals[2] == pytest.approx(totals[3], rel=1e-4)


def test_overload_is_where_the_demand_is_greater_than_the_time() -> None:
    release, due = np.array([0.0, 10.0, 11.0, 50.0]), np.array([100.0, 20.0, 21.0, 60.0])
    starts, ends = overloaded(release, due, np.array([30.0, 8.0, 8.0, 5.0]))
    assert starts.tolist() == [10.0]  # [10, 21] holds 11 of 16; the first request is pushed out of it
    assert ends.tolist() == [21.0]
    starts, _ = overloaded(release, due, np.array([30.0, 5.0, 5.0, 5.0]))
    assert not len(starts)


def test_an_empty_trace_is_worth_nothing() -> None:
    assert bound(asked([]), world()) == (0.0, 0.0)
