"""What can go wrong with a question, said without HTTP.

The tree::

    LeewayError
     ├─ RefusedError               the question may be fine, the server does not take it now
     │   ├─ NotReadyError
     │   ├─ DrainingError
     │   └─ OverloadedError        too much waits for the budget, or for any further question
     ├─ InfeasibleBudgetError      no budget that small can be kept for this question
     ├─ ExpiredError               it was taken, and its budget ran out before its turn
     ├─ UnanswerableError          the question itself cannot be taken
     │   ├─ TooManyWindowsError
     │   └─ InvalidReadingError
     └─ ModelLoadError             the model could not be loaded; the server cannot run
"""

from __future__ import annotations


class LeewayError(Exception):
    """Base of the server's errors; the message is fit for the caller."""


class RefusedError(LeewayError):
    """Base: not now.

    Attributes:
        retry_after_ns: nanoseconds after which another try is sensible, at least a millisecond.
    """

    def __init__(self, message: str, retry_after_ns: int = 1_000_000_000) -> None:
        super().__init__(message)
        self.retry_after_ns = max(1_000_000, retry_after_ns)


class NotReadyError(RefusedError):
    """The model is still loading or warming up."""


class DrainingError(RefusedError):
    """The server is finishing its work and takes no more."""


class OverloadedError(RefusedError):
    """Under the present load the budget cannot be kept, or as many requests wait as may wait."""


class InfeasibleBudgetError(LeewayError):
    """Even an idle server needs longer than the budget.

    Attributes:
        min_feasible_ns: the least budget that an idle server accepts for this question.
    """

    def __init__(self, message: str, min_feasible_ns: int) -> None:
        super().__init__(message)
        self.min_feasible_ns = min_feasible_ns


class ExpiredError(LeewayError):
    """Taken, but its turn came too late for its budget; it was not run."""


class UnanswerableError(LeewayError):
    """Base: this question, however often it is asked.

    Attributes:
        field: the part of the question that is at fault, in the words of the caller's form.
        item: its place in a batch, from 0.
    """

    def __init__(self, message: str, field: str, item: int = 0) -> None:
        super().__init__(message)
        self.field = field
        self.item = item


class TooManyWindowsError(UnanswerableError):
    """The context would be cut into more windows than the server allows."""


class InvalidReadingError(UnanswerableError):
    """Window lengths that contradict each other or the model."""


class ModelLoadError(LeewayError):
    """The model could not be loaded or warmed up; the message says why."""
