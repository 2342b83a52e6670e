"""What became of a request, as its client sees it, in the server's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_PROBLEM_PREFIX = "urn:leeway:problem:"


class Outcome(StrEnum):
    """Exactly one per offered request; the same words as in the server's metrics and log."""

    SERVED_IN_BUDGET = "served_in_budget"
    """Answered, and within the budget (or without one), as the client measures from the intended time."""
    SERVED_LATE = "served_late"
    """Answered, but later than that, whatever the server thinks."""
    REJECTED_INFEASIBLE = "rejected_infeasible"
    """422, kind budget-infeasible."""
    REJECTED_OVERLOAD = "rejected_overload"
    """503, kinds overloaded and not-ready."""
    EXPIRED_IN_QUEUE = "expired_in_queue"
    """504, kind budget-expired."""
    CLIENT_GONE = "client_gone"
    """This client lost its patience (the scenario's timeout) and hung up."""
    FAILED = "failed"
    """Anything else: another status, a broken connection, a response that makes no sense."""


_REFUSALS: Mapping[tuple[int, str], Outcome] = {
    (422, "budget-infeasible"): Outcome.REJECTED_INFEASIBLE,
    (503, "overloaded"): Outcome.REJECTED_OVERLOAD,
    (503, "not-ready"): Outcome.REJECTED_OVERLOAD,
    (504, "budget-expired"): Outcome.EXPIRED_IN_QUEUE,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: of the response; 0 without one.
        answer: text of the best answer; None but for a 200.
        problem: ``type`` of the problem details, or the reason why there is no response.
        configuration: ``X-Length-Config``.
        expected_f1: ``X-Expected-F1``, percent.
        said_met: ``X-Latency-Budget-Met``.
        server_ms: total of ``Server-Timing``.
        timed_out: this client hung up.
    """

    status: int
    answer: str | None = None
    problem: str | None = None
    configuration: str | None = None
    expected_f1: float | None = None
    said_met: bool | None = None
    server_ms: float | None = None
    timed_out: bool = False


def outcome_of(reply: Reply, latency_ms: float, budget_ms: float | None) -> Outcome:
    """The end that a request came to.

    Args:
        reply: what came back.
        latency_ms: from the intended time to the last byte.
        budget_ms: of the caller, told or not; None without one.
    """
    if reply.timed_out:
        return Outcome.CLIENT_GONE
    if reply.status == 200 and reply.answer is not None:
        in_time = budget_ms is None or latency_ms <= budget_ms
        return Outcome.SERVED_IN_BUDGET if in_time else Outcome.SERVED_LATE
    kind = (reply.problem or "").removeprefix(_PROBLEM_PREFIX)
    return _REFUSALS.get((reply.status, kind), Outcome.FAILED)
