"""What the router knows of one request."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.routing.latency_model import Work
from server.routing.outcomes import Outcome

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is offered to the router.

    Attributes:
        window_lengths: real tokens of each window, at least one.
        arrival_ns: when it came.
        budget_ns: latency budget of the caller; None without one.
        best_effort: answer as fast as can be in place of a refusal.
        pinned: index of the configuration that must be used; None leaves the choice to the policy.
        prepared_ns: work on it before it was offered (tokenizing), which it needs on an idle server, too.
        lengths_alike: int64 ``[configurations, windows]``: tokens of windows that each configuration needs in the mean
            as long for as for these; None where that is as long as they are.
    """

    window_lengths: tuple[int, ...]
    arrival_ns: int
    budget_ns: int | None = None
    best_effort: bool = False
    pinned: int | None = None
    prepared_ns: int = 0
    lengths_alike: IntArray | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not taken.

    Attributes:
        outcome: ``rejected_infeasible``, ``rejected_overload``, or ``expired_in_queue`` if its deadline has passed.
        reason: in words, for the caller.
        min_feasible_ns: the least budget that an idle server would accept for it.
        retry_after_ns: when the same request would likely be taken; 0 if trying again is of no use.
    """

    outcome: Outcome
    reason: str
    min_feasible_ns: int
    retry_after_ns: int


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that was admitted.

    Attributes:
        request: as offered.
        sequence: order of admission.
        work: its inference.
        strict: whether it has a budget that must be kept (best-effort requests and those without a budget have not).
        deadline_ns: arrival + budget; for requests that are not strict, when they should be served.
        finish_by_ns: when inference must have ended for the deadline to be kept.
        rungs: configuration at each rung of the policy's ladder, int64 ``[R]``.
        rung_ns: profile time at each rung of what is left to run, float64 ``[R]``.
        excess: upper quantile over expectation of the service time, minus one.
        windows_done: windows that have run.
        configuration: index, once dispatched: all windows of a request run under the same.
        hastened: wants the cheapest configuration and is not dropped (best effort beyond its budget, or a trial).
    """

    request: Request
    sequence: int
    work: Work
    strict: bool
    deadline_ns: int
    finish_by_ns: int
    rungs: IntArray
    rung_ns: FloatArray
    excess: float
    windows_done: int = 0
    configuration: int | None = None
    hastened: bool = False
    gone: bool = field(default=False)

    @property
    def promised_ns(self) -> float:
        """When inference must have ended; infinite where nothing is promised."""
        return self.finish_by_ns if self.strict and not self.hastened else math.inf

    def least_ns(self, factor: float) -> float:
        """Upper quantile of its inference at the cheapest, times of the profile multiplied by `factor`."""
        return float(self.rung_ns[0]) * factor * (1.0 + self.excess)

    @property
    def key(self) -> tuple[int, int]:
        """The queue's order: the least is next."""
        return self.finish_by_ns, self.sequence


class Dispatch(NamedTuple):
    """A part of a request that is to run now.

    Attributes:
        ticket: of the request.
        configuration: index.
        first_window: of the part.
        windows: of the part.
        at_ns: when it was dispatched.
        factor: trim x scale factor of that moment.
        expected_ns: of the part's inference.
        upper_ns: its upper quantile.
        predicted_latency_ns: arrival to answer of the whole request, upper quantile.
    """

    ticket: Ticket
    configuration: int
    first_window: int
    windows: int
    at_ns: int
    factor: float
    expected_ns: float
    upper_ns: float
    predicted_latency_ns: int
