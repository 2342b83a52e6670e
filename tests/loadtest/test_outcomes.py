from __future__ import annotations

import pytest

from loadtest.outcomes import Outcome, Reply, outcome_of
from server.routing.outcomes import Outcome as ServerOutcome


def problem(status: int, kind: str) -> Reply:
    return Reply(status, problem=f"urn:leeway:problem:{kind}")


def test_the_words_are_the_servers() -> None:
    assert {each.value for each in Outcome} == {each.value for each in ServerOutcome}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (problem(422, "budget-infeasible"), Outcome.REJECTED_INFEASIBLE),
        (problem(422, "invalid-request"), Outcome.FAILED),
        (problem(503, "overloaded"), Outcome.REJECTED_OVERLOAD),
        (problem(503, "not-ready"), Outcome.REJECTED_OVERLOAD),
        (Reply(503, problem="a proxy's"), Outcome.FAILED),
        (problem(504, "budget-expired"), Outcome.EXPIRED_IN_QUEUE),
        (Reply(504), Outcome.FAILED),
        (problem(500, "internal-error"), Outcome.FAILED),
        (Reply(0, problem="ConnectionResetError"), Outcome.FAILED),
        (Reply(0, problem="TimeoutError", timed_out=True), Outcome.CLIENT_GONE),
        (Reply(200), Outcome.FAILED),
        (Reply(200, answer=""), Outcome.SERVED_IN_BUDGET),
    ],
)
def test_every_end_has_its_word(reply: Reply, expected: Outcome) -> None:
    assert outcome_of(reply, 50.0, 100.0) is expected


def test_the_clients_clock_decides_what_is_late() -> None:
    reply = Reply(200, answer="Lyon", said_met=True)
    assert outcome_of(reply, 100.0, 100.0) is Outcome.SERVED_IN_BUDGET
    assert outcome_of(reply, 100.001, 100.0) is Outcome.SERVED_LATE
    assert outcome_of(reply, 1e9, None) is Outcome.SERVED_IN_BUDGET
