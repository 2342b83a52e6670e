"""Admission, order and dispatch, worked by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from server.routing.outcomes import Outcome
from server.routing.router import Router
from server.routing.ticket import Dispatch, Request, Ticket
from tests.server.routing.parts import (
    MS,
    SECOND,
    admitted,
    poor_cheap,
    poor_two,
    refused,
    router,
    started,
)


def test_an_idle_server_gives_the_best_that_the_budget_holds() -> None:
    # 100 tokens take 2.5, 5 and 10 ms; 0.5 ms for the answer, 1 ms reserve, tails of a few percent beside that
    for budget_ms, wanted in ((100, 2), (15, 2), (9, 1), (6, 0)):
        server = router()
        admitted(server.admit(Request((100,), 0, budget_ms * MS), 0))
        assert started(server, 0).configuration == wanted, budget_ms


def test_a_budget_below_the_fastest_answer_is_infeasible_and_told_the_least() -> None:
    server = router()
    refusal = refused(server.admit(Request((100,), 0, 2 * MS), 0))
    assert refusal.outcome is Outcome.REJECTED_INFEASIBLE
    admitted(server.admit(Request((100,), 0, refusal.min_feasible_ns + 1000), 0))


def test_a_budget_that_the_load_alone_forbids_is_refused_with_a_time_to_come_back() -> None:
    server = router()
    admitted(server.admit(Request((384,), 0, pinned=2), 0))
    started(server, 0)  # 38.4 ms
    refusal = refused(server.admit(Request((100,), 0, 20 * MS), 0))
    assert refusal.outcome is Outcome.REJECTED_OVERLOAD
    assert refusal.min_feasible_ns < 20 * MS
    assert 20 * MS < refusal.retry_after_ns < 40 * MS
    admitted(server.admit(Request((100,), 0, 20 * MS + refusal.retry_after_ns + 1_000), 0))


def test_nobody_is_taken_who_would_make_a_promise_break() -> None:
    server = router()
    admitted(server.admit(Request((100,), 0, 6 * MS), 0))
    refusal = refused(server.admit(Request((100,), 0, 5 * MS + 500_000), 0))
    assert refusal.outcome is Outcome.REJECTED_OVERLOAD


def test_callers_that_come_one_after_the_other_do_not_cheapen_each_other_however_urgent() -> None:
    server = router()
    chosen, now_ns = Counter[int](), 0
    for step in range(300):
        budget_ms = (6, 100)[step % 2]
        admitted(server.admit(Request((100,), now_ns, budget_ms * MS), now_ns))
        dispatch = started(server, now_ns)
        chosen[dispatch.configuration] += budget_ms == 100
        now_ns += int(dispatch.expected_ns)
        server.finished(dispatch, now_ns)
    assert +chosen == Counter({2: 150})


def test_the_queue_is_bounded() -> None:
    server = router(capacity=2)
    for _ in range(2):
        admitted(server.admit(Request((100,), 0), 0))
    refusal = refused(server.admit(Request((100,), 0), 0))
    assert (refusal.outcome, refusal.reason) == (Outcome.REJECTED_OVERLOAD, "as many requests wait as may")


def test_the_earliest_deadline_goes_first() -> None:
    server = router()
    late = admitted(server.admit(Request((100,), 0, 90 * MS), 0))
    soon = admitted(server.admit(Request((100,), 0, 30 * MS), 0))
    first = started(server, 0)
    assert first.ticket is soon
    server.finished(first, MS)
    assert started(server, MS).ticket is late


def test_requests_without_a_budget_wait_for_those_with_a_nearer_deadline_but_not_for_ever() -> None:
    server = router(patience_ns=100 * MS)
    patient = admitted(server.admit(Request((100,), 0), 0))
    admitted(server.admit(Request((100,), 0, 50 * MS), 0))
    last = admitted(server.admit(Request((100,), 0, 200 * MS), 0))
    order = []
    for step in range(3):
        dispatch = started(server, step * MS)
        order.append(dispatch.ticket)
        server.finished(dispatch, step * MS + 1)
    assert order.index(patient) == 1
    assert order[-1] is last


def test_who_can_no_longer_be_in_time_is_dropped_and_not_run() -> None:
    server = router()
    gone = admitted(server.admit(Request((100,), 0, 20 * MS), 0))
    fine = admitted(server.admit(Request((100,), 0, 90 * MS), 0))
    dispatch, dropped = server.dispatch(19 * MS)
    assert dropped == [gone]
    assert dispatch is not None
    assert dispatch.ticket is fine


def test_who_hung_up_is_taken_out() -> None:
    server = router()
    gone = admitted(server.admit(Request((100,), 0, 50 * MS), 0))
    fine = admitted(server.admit(Request((100,), 0, 90 * MS), 0))
    assert server.cancel(gone)
    assert started(server, 0).ticket is fine
    assert not server.cancel(fine), "it runs: nothing to take out"


def test_a_long_text_runs_in_parts_and_lets_the_urgent_pass() -> None:
    server = router(slice_ns=40 * MS)
    long = admitted(server.admit(Request((384,) * 20, 0, 5 * SECOND), 0))
    part = started(server, 0)
    assert 1 <= part.windows < 20
    urgent = admitted(server.admit(Request((100,), MS, 90 * MS), MS))
    assert not server.finished(part, 38 * MS)
    second = started(server, 38 * MS)
    assert second.ticket is urgent
    server.finished(second, 48 * MS)
    third = started(server, 48 * MS)
    assert (third.ticket, third.first_window, third.configuration) == (long, part.windows, part.configuration)


def test_the_parts_to_come_of_a_long_text_count_as_a_promise_while_one_runs() -> None:
    server = router()
    admitted(server.admit(Request((384,) * 20, 0, 900 * MS, pinned=2), 0))  # 768 ms
    part: Dispatch | None = started(server, 0)
    now_ns, taken, ended_ns = 0, 0, 0
    while part is not None and not ended_ns:  # in every part somebody comes who is more urgent, 10 ms each
        taken += isinstance(server.admit(Request((100,), now_ns, 60 * MS, pinned=2), now_ns), Ticket)
        now_ns = part.at_ns + int(part.expected_ns)
        if server.finished(part, now_ns) and part.ticket.work.windows == 20:
            ended_ns = now_ns
        part, dropped = server.dispatch(now_ns)
        assert not dropped
    assert 768 * MS <= ended_ns <= 900 * MS
    assert 3 <= taken <= 13


def test_who_comes_behind_a_long_text_waits_for_its_parts_to_come() -> None:
    server = router()
    admitted(server.admit(Request((384,) * 20, 0, 850 * MS, pinned=2), 0))
    started(server, 0)
    refusal = refused(server.admit(Request((384,) * 20, 0, 860 * MS, pinned=0), 0))  # 192 ms, behind 768
    assert refusal.outcome is Outcome.REJECTED_OVERLOAD
    admitted(server.admit(Request((384,) * 20, 0, 860 * MS + refusal.retry_after_ns + 1_000, pinned=0), 0))


def test_as_a_queue_grows_long_texts_are_refused_before_short_ones_and_none_on_an_idle_engine() -> None:
    server = router()
    assert isinstance(server.admit(Request((384,) * 4, 0, 200 * MS), 0), Ticket)
    taken = {
        tokens: [isinstance(server.admit(Request((tokens,), 0, 200 * MS), 0), Ticket) for _ in range(30)]
        for tokens in (384, 100)
    }
    assert taken[384][0]
    assert not taken[384][-1]
    assert taken[100][0], "where no long one is taken any more, a short one is"


def test_the_least_budget_counts_what_came_before_admission() -> None:
    refusal = refused(router().admit(Request((100,) * 40, 0, MS, prepared_ns=30 * MS), 30 * MS))
    assert refusal.outcome is Outcome.REJECTED_INFEASIBLE
    enough_ns = refusal.min_feasible_ns + 1_000
    admitted(router().admit(Request((100,) * 40, 0, enough_ns, prepared_ns=30 * MS), 30 * MS))


def test_what_an_idle_server_could_not_do_is_infeasible_even_where_the_queue_is_full() -> None:
    server = router(capacity=1)
    admitted(server.admit(Request((100,), 0), 0))
    assert refused(server.admit(Request((100,), 0, MS), 0)).outcome is Outcome.REJECTED_INFEASIBLE


def test_a_pinned_configuration_is_kept_to() -> None:
    server = router()
    admitted(server.admit(Request((100,), 0, 90 * MS, pinned=0), 0))
    assert started(server, 0).configuration == 0
    refusal = refused(router().admit(Request((100,), 0, 8 * MS, pinned=2), 0))
    assert refusal.outcome is Outcome.REJECTED_INFEASIBLE


def test_best_effort_is_never_refused_for_its_budget_and_then_gets_the_fastest() -> None:
    server = router()
    hopeless = admitted(server.admit(Request((100,), 0, MS, best_effort=True), 0))
    dispatch = started(server, 0)
    assert (dispatch.ticket, dispatch.configuration) == (hopeless, 0)
    server.finished(dispatch, 3 * MS)
    admitted(server.admit(Request((100,), 3 * MS, 100 * MS, best_effort=True), 3 * MS))
    assert started(server, 3 * MS).configuration == 2


def test_without_budgets_the_load_is_the_ceiling_and_a_backlog_cheapens() -> None:
    server = router()
    server.ceiling = 1
    admitted(server.admit(Request((100,), 0), 0))
    assert started(server, 0).configuration == 1
    crowded = router(capacity=400, patience_ns=SECOND)
    for _ in range(300):
        admitted(crowded.admit(Request((100,), 0), 0))
    assert started(crowded, 0).configuration < 2


def test_on_an_idle_server_a_long_text_gets_the_best_that_its_budget_holds() -> None:
    for windows in (5, 12, 40, 300):
        for budget_ns in (None, 3600 * SECOND):
            server = router(capacity=400)
            admitted(server.admit(Request((384,) * windows, 0, budget_ns), 0))
            assert started(server, 0).configuration == 2, (windows, budget_ns)


def test_a_long_text_without_a_budget_that_falls_behind_cheapens_nobody_else() -> None:
    server = router(capacity=20)
    admitted(server.admit(Request((384,) * 1_200, 0), 0))  # 46 s
    chosen, now_ns, due_ns = Counter[int](), 0, 0
    while now_ns < 15 * SECOND:
        if now_ns >= due_ns:  # every 60 ms a short one of 10 ms
            admitted(server.admit(Request((100,), now_ns, 150 * MS), now_ns))
            due_ns += 60 * MS
        dispatch = started(server, now_ns)
        if len(dispatch.ticket.request.window_lengths) == 1:
            chosen[dispatch.configuration] += 1
        now_ns += int(dispatch.expected_ns)
        server.finished(dispatch, now_ns)
    assert chosen[2] > 0.9 * chosen.total() > 100


def test_a_deadline_that_passed_before_admission_has_expired() -> None:
    refusal = refused(router().admit(Request((100,), 0, 50 * MS), 60 * MS))
    assert refusal.outcome is Outcome.EXPIRED_IN_QUEUE


def test_a_configuration_not_used_lately_is_probed_on_a_request_without_a_budget() -> None:
    server = router(probe_ns=10 * SECOND)
    used, order = Counter[int](), list[int]()
    for step in range(200):
        now_ns = step * 200 * MS
        admitted(server.admit(Request((100,), now_ns), now_ns))
        dispatch = started(server, now_ns)
        used[dispatch.configuration] += 1
        order.append(dispatch.configuration)
        server.finished(dispatch, now_ns + int(dispatch.expected_ns))
    assert used[0] >= 2
    assert used[1] >= 2
    assert used[2] > 180
    assert min(np.diff(np.flatnonzero(np.array(order) != 2))) > 10, "not one after the other"


def test_a_configuration_that_nobody_gets_does_not_keep_others_from_being_probed() -> None:
    server = router(probe_ns=10 * SECOND)
    server.ceiling = 1
    used = Counter[int]()
    for step in range(300):
        now_ns = step * 200 * MS
        admitted(server.admit(Request((100,), now_ns), now_ns))
        dispatch = started(server, now_ns)
        used[dispatch.configuration] += 1
        server.finished(dispatch, now_ns + int(dispatch.expected_ns))
    assert used[0] >= 4
    assert used[2] == 0, "no probe is dearer than the load allows"


def test_the_load_is_no_ceiling_for_best_effort_within_a_budget() -> None:
    server = router()
    server.ceiling = 0
    admitted(server.admit(Request((100,), 0, 500 * MS, best_effort=True), 0))
    assert started(server, 0).configuration == 2


def test_a_server_that_thinks_itself_too_slow_does_not_refuse_for_ever() -> None:
    server = router()
    for step in range(60):  # eight times slower than the profile: everything is refused in the end
        now_ns = step * 100 * MS
        if isinstance(server.admit(Request((100,), now_ns), now_ns), Ticket):
            dispatch = started(server, now_ns)
            server.finished(dispatch, now_ns + int(dispatch.expected_ns / dispatch.factor * 8))
    soon, later = 6 * SECOND + 20 * MS, 120 * SECOND
    refused(server.admit(Request((100,), soon, 14 * MS), soon))
    assert not admitted(server.admit(Request((100,), later, 14 * MS), later)).hastened, "no trial: it is sure again"


def test_a_profile_of_another_table_is_refused() -> None:
    from model_store.pareto import ParetoTable
    from server.routing.latency_model import LatencyModel
    from server.routing.policy import LookAhead
    from tests.server.routing.parts import F1, profile, table

    points = table().points
    with pytest.raises(ValueError, match="the Pareto table of"):
        Router(ParetoTable(points[1:], 100.0), LatencyModel(profile()), LookAhead(np.array(F1)))


def flooded(refusal_cost: float) -> Counter[int]:
    """Configurations of those served when 100 tokens, 10 ms in full, come every 2 ms with 30 ms each."""
    routed = router(poor_cheap(refusal_cost))
    served: Counter[int] = Counter()
    for now_ns in range(0, 2 * SECOND, MS // 2):
        if routed.running is not None and now_ns >= routed.running.at_ns + routed.running.expected_ns:
            assert routed.finished(routed.running, now_ns)
        if now_ns % (2 * MS) == 0:
            routed.admit(Request((100,), now_ns, 30 * MS), now_ns)
        dispatch, dropped = routed.dispatch(now_ns)
        assert not dropped
        if dispatch is not None and now_ns >= SECOND:
            served[dispatch.configuration] += 1
    return served


def test_in_a_flood_nobody_is_answered_so_badly_that_it_costs_more_than_refusing() -> None:
    served = flooded(0.0)
    assert served[0] <= 0.02 * served.total()
    assert served.total() > 150  # of 5 ms each


def test_where_refusals_cost_more_than_answers_are_worth_the_cheapest_is_for_all() -> None:
    served = flooded(1000.0)
    assert served[0] >= 0.9 * served.total()
    assert served.total() > 300  # of 2.5 ms each


def test_with_time_to_spare_a_tight_budget_gets_the_best_answer_that_it_holds() -> None:
    for cheap, budget_ms, wanted in ((poor_cheap, 5, 0), (poor_two, 9, 1)):
        routed = router(cheap(0.0))
        admitted(routed.admit(Request((100,), 0, budget_ms * MS), 0))  # 2.5 ms, 5 ms or 10 ms
        assert started(routed, 0).configuration == wanted
