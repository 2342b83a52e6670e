"""What can go wrong with a question, said without HTTP.

The tree::

    LeewayError
     ├─ RefusedError               the question may be fine, the server does not take it now
     │   ├─ NotReadyError
     │   ├─ DrainingError
     │   └─ QueueFullError
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
        retry_after_seconds: whole seconds after which another try is sensible, at least 1.
    """

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = max(1, retry_after_seconds)


class NotReadyError(RefusedError):
    """The model is still loading or warming up."""


class DrainingError(RefusedError):
    """The server is finishing its work and takes no more."""


class QueueFullError(RefusedError):
    """As many requests wait as may wait."""


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
