from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulation.adapter import ServerRouter, own_policy
from benchmarks.simulation.baselines import Fixed, SlackFit
from benchmarks.simulation.contest import OURS, POLICIES, contest
from benchmarks.simulation.host import Host, StallRate
from benchmarks.simulation.loop import NOT_SERVED, simulate
from benchmarks.simulation.scores import score
from benchmarks.simulation.trace import SPECS, make_trace
from benchmarks.simulation.world import World, example_profile, example_table
from server.routing.outcomes import Outcome
from server.routing.policy import Policy
from server.routing.ticket import Dispatch, Refusal, Request, Ticket
from tests.simulation.worlds import MS, asked, world


def example() -> World:
    table = example_table()
    return World(table, example_profile(table), "example", "example")


class Leaky:
    """A router that admits everyone and runs nobody."""

    def __init__(self, policy: Policy) -> None:
        self._inner = ServerRouter(world(), policy)

    def admit(self, request: Request, now_ns: int) -> Ticket | Refusal:
        return self._inner.admit(request, now_ns)

    def dispatch(self, now_ns: int) -> tuple[Dispatch | None, list[Ticket]]:
        return None, []

    def finished(self, dispatch: Dispatch, now_ns: int) -> bool:
        raise AssertionError

    def answered(self, dispatch: Dispatch, after_ns: int) -> None:
        raise AssertionError


def test_times_add_up_by_hand() -> None:
    here = world()
    trace = asked([(0.0, 100.0), (3.0, 100.0), (40.0, 100.0)])
    ends = simulate(trace, here, ServerRouter(here, Fixed(2)))
    assert [each / MS for each in ends.answered_ns] == [10.0, 20.0, 50.0]
    assert set(ends.outcome) == {Outcome.SERVED_IN_BUDGET}
    assert ends.configuration.tolist() == [2, 2, 2]


def test_what_follows_inference_delays_the_answer_and_not_the_next_inference() -> None:
    here = world()
    slow = replace(here, profile=replace(here.profile, answer_ns=5.0 * MS, tokenize_ns=2.0 * MS))
    ends = simulate(asked([(0.0, 100.0), (0.0, 100.0)]), slow, ServerRouter(slow, Fixed(2)))
    assert [each / MS for each in ends.answered_ns] == [17.0, 27.0]


def test_a_residual_and_a_slow_host_lengthen_the_run() -> None:
    here = world()
    trace = asked([(0.0, 100.0), (20.0, 100.0)], host=Host(25 * MS))
    trace.residual[:] = [1.5, 1.0]
    ends = simulate(trace, here, ServerRouter(here, Fixed(2)))
    assert [each / MS for each in ends.answered_ns] == [15.0, 35.0]


def test_late_answers_count_nothing() -> None:
    here = world()
    trace = asked([(0.0, 20.0), (50.0, None)])
    trace.residual[0] = 3.0
    ends = simulate(trace, here, ServerRouter(here, Fixed(2)))
    assert ends.outcome == (Outcome.SERVED_LATE, Outcome.SERVED_IN_BUDGET)
    found = score(trace, ends, here)
    assert found.effective_f1 == pytest.approx(40.0)
    assert found.slo_attainment == 50.0
    assert found.late_share == 50.0
    assert found.late_by_class == {"all": 50.0}
    assert found.goodput == 1.0


def test_goodput_of_a_step_is_of_what_the_cheapest_configuration_could_answer_of_those_that_come() -> None:
    here = world()

    def goodput(requests: Sequence[tuple[float, float | None]]) -> float | None:
        trace = replace(asked(requests), step=(0.1, 0.2))
        return score(trace, simulate(trace, here, ServerRouter(here, Fixed(2))), here).step_goodput

    few = [(110.0, 100.0), (130.0, 2.0), (150.0, 100.0)]  # the second is refused
    assert goodput(few) == pytest.approx(100 * 2 / 3)
    many = [(100.0, None)] * 40  # nine are answered within the step, at 110 to 190 ms
    assert goodput(many) == pytest.approx(100 * 90 / (1e9 / here.mean_inference_ns[0]))
    assert goodput([(0.0, 100.0), (500.0, 100.0)]) is None


def test_a_refusal_is_an_outcome_and_no_answer() -> None:
    here = world()
    ends = simulate(asked([(0.0, 2.0), (1.0, 100.0)]), here, ServerRouter(here, Fixed(2)))
    assert ends.outcome == (Outcome.REJECTED_INFEASIBLE, Outcome.SERVED_IN_BUDGET)
    assert ends.answered_ns[0] == ends.configuration[0] == NOT_SERVED
    assert score(asked([(0.0, 2.0), (1.0, 100.0)]), ends, here).late_share == 0.0


def test_a_lost_request_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="lost"):
        simulate(asked([(0.0, 100.0)]), world(), Leaky(Fixed(2)))


@pytest.mark.parametrize("name", SPECS)
def test_every_request_comes_to_one_end(name: str) -> None:
    here = example()
    trace = make_trace(name, 0, here, seconds=3.0)
    for policy in (own_policy(here), SlackFit(here.f1), Fixed(11)):
        ends = simulate(trace, here, ServerRouter(here, policy))
        found = score(trace, ends, here)
        assert len(ends.outcome) == len(trace) == sum(found.outcomes.values()) == sum(found.offered_by_second)
        assert sum(found.f1_by_second) == pytest.approx(found.effective_f1 * len(trace))
        served = np.array([each in {Outcome.SERVED_IN_BUDGET, Outcome.SERVED_LATE} for each in ends.outcome])
        assert ((ends.configuration != NOT_SERVED) == served).all()
        assert (ends.answered_ns[served] > trace.arrival_ns[served]).all()


def test_one_engine_does_one_thing_at_a_time() -> None:
    here = example()
    trace = make_trace("poisson_130", 0, here, seconds=3.0)
    ends = simulate(trace, here, ServerRouter(here, Fixed(11)))
    served = ends.configuration != NOT_SERVED
    work = sum(
        float(here.inference_ns(trace.windows[i])[11]) * trace.residual[i] for i in np.flatnonzero(served).tolist()
    )
    assert work <= ends.answered_ns.max()


def test_a_contest_has_everyone_and_is_repeatable() -> None:
    here = example()
    found = contest("poisson_130", 1, here, seconds=2.0)
    assert tuple(found) == POLICIES
    assert found["clockwork"] == found["fixed_full"]
    assert found[OURS] == contest("poisson_130", 1, here, (OURS,), seconds=2.0)[OURS]


def test_where_the_host_stalls_few_are_late() -> None:
    found = contest("poisson_80", 0, example(), ("leeway",), seconds=30.0, stalls=StallRate(1.0, 30.0))["leeway"]
    assert found.late_share < 2.0
    assert found.slo_attainment > 95.0


def test_a_contest_refuses_an_unknown_policy() -> None:
    with pytest.raises(ValueError, match="no policy"):
        contest("poisson_50", 0, example(), ("magic",), seconds=1.0)
