"""What became of a request: exactly one outcome each, the same word in the metrics, the log and the reports."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The ends that a valid request can come to."""

    SERVED_IN_BUDGET = "served_in_budget"
    """Answered in time (or without a budget): 200."""
    SERVED_LATE = "served_late"
    """Answered after its deadline, and the answer says so: 200."""
    REJECTED_INFEASIBLE = "rejected_infeasible"
    """Not to be had within the budget even on an idle server: 422."""
    REJECTED_OVERLOAD = "rejected_overload"
    """Not to be had now: too much waits, or the server is draining: 503."""
    EXPIRED_IN_QUEUE = "expired_in_queue"
    """Admitted, but its deadline passed, or could no longer be met, before it was run: 504."""
    CLIENT_GONE = "client_gone"
    """The caller hung up first; nobody reads the answer."""
    FAILED = "failed"
    """A failure of ours: 5xx."""
