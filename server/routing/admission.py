"""Yes, or no with the reason: no promise is made that could not be kept, and none is broken by a later one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.routing.ends import latest_ends
from server.routing.latency_model import LatencyModel, Work
from server.routing.outcomes import Outcome
from server.routing.policy import Policy
from server.routing.queue import DeadlineQueue
from server.routing.ticket import Dispatch, Refusal, Request, Ticket

FloatArray = NDArray[np.float64]

_TRIAL_NS = 100_000_000


class Present(NamedTuple):
    """What a request meets that is offered.

    Attributes:
        queue: who waits.
        running: what occupies the engine.
        policy: names the rung at which everyone must be in time, and says whether one may come in at the cheapest rung
            that is in time there alone.
        factor: what the profile's times are multiplied by to be expected now.
        now_ns: of the offer.
    """

    queue: DeadlineQueue
    running: Dispatch | None
    policy: Policy
    factor: float
    now_ns: int


class Admission:
    """Decides on requests, in order of arrival.

    A request with a budget is taken if, at a rung that the policy names and with everyone in order of deadlines, it and
    every request with a budget behind it would end in time (`latest_ends`).  Nothing is kept back for stalls here;
    dispatch does that.

    Who refuses learns nothing.  So an idle engine that has learned nothing for `_TRIAL_NS` takes a request that it
    could serve in time if it were as fast as at first, at the cheapest, and learns whether it is.
    """

    def __init__(self, model: LatencyModel, reserve_ns: int, patience_ns: int) -> None:
        self._model = model
        self._reserve_ns = reserve_ns
        self._patience_ns = patience_ns
        self._tried_ns = -_TRIAL_NS

    def decide(self, ticket: Ticket, present: Present) -> Refusal | None:
        """Why `ticket` must not be pushed into the queue; None if it may.

        One that comes in at the cheapest rung alone counts as that at every rung up to the floor.
        """
        refusal = self._refusal(ticket, present)
        busy = present.running is not None or len(present.queue) > 0
        if refusal is None or busy or not self._tries(ticket, present.now_ns):
            return refusal
        ticket.hastened = True
        return None

    def limits_ns(self, request: Request, work: Work, factor: float, tail: float, now_ns: int) -> tuple[int, int]:
        """The deadline, and when inference must have ended for it to be kept; without a budget, when it should have.

        Args:
            request: as offered.
            work: its inference.
            factor: what the profile's times are multiplied by to be expected now.
            tail: upper quantile over expectation at the richest configuration.
            now_ns: of the offer.
        """
        budget_ns = request.budget_ns
        if budget_ns is None:  # patience is for waiting: the best answer may take its time
            budget_ns = self._patience_ns + int(work.base_ns[-1] * factor * tail)
        after_ns = int(self._model.answer_upper_ns(work, factor, now_ns)) + self._reserve_ns
        deadline_ns = request.arrival_ns + budget_ns
        return deadline_ns, deadline_ns - after_ns

    def _refusal(self, ticket: Ticket, present: Present) -> Refusal | None:  # noqa: PLR0911 - a return for each reason
        queue, _, policy, factor, now_ns = present
        if ticket.strict and now_ns + ticket.least_ns(factor) > ticket.finish_by_ns:
            hopeless = _hopeless(ticket, self._least_budget_ns(ticket, factor, now_ns), now_ns)
            if hopeless is not None:
                return hopeless
        if queue.full:
            drain_ns = float(queue.rows.times_ns[:, 0].sum()) * factor
            return self._overload("as many requests wait as may", ticket, drain_ns, factor, now_ns)
        if ticket.request.budget_ns is None:
            return None
        late_ns = _lateness_ns(ticket, present)
        if late_ns <= 0:
            return None
        if not ticket.strict:
            ticket.hastened = True
            return None
        if ticket.rung_ns[0] < ticket.rung_ns[policy.floor] and policy.spares(factor):
            ticket.rung_ns = ticket.rung_ns.copy()
            ticket.rung_ns[: policy.floor + 1] = ticket.rung_ns[0]
            late_ns = _lateness_ns(ticket, present)
        if late_ns <= 0:
            return None
        return self._overload("under the present load the budget cannot be kept", ticket, late_ns, factor, now_ns)

    def _tries(self, ticket: Ticket, now_ns: int) -> bool:
        """Whether it is time to try `ticket` although it seems hopeless; says so once per `_TRIAL_NS` at most."""
        model = self._model
        at_first_ns = float(ticket.rung_ns[0]) * model.trim * model.first_tail
        after_ns = model.answer_upper_ns(ticket.work, model.trim, now_ns) + self._reserve_ns
        known_ns = max(model.learned_ns, self._tried_ns)
        if now_ns + at_first_ns + after_ns > ticket.deadline_ns or now_ns - known_ns < _TRIAL_NS or not ticket.strict:
            return False
        self._tried_ns = now_ns
        return True

    def _least_budget_ns(self, ticket: Ticket, factor: float, now_ns: int) -> int:
        """The least budget that an idle server, at the profile's own speed or its present one, keeps for it."""
        factor = min(self._model.trim, factor)
        after_ns = self._model.answer_upper_ns(ticket.work, factor, now_ns)
        return ticket.request.prepared_ns + int(ticket.least_ns(factor) + after_ns) + self._reserve_ns

    def _overload(self, reason: str, ticket: Ticket, wait_ns: float, factor: float, now_ns: int) -> Refusal:
        least_ns = self._least_budget_ns(ticket, factor, now_ns)
        return Refusal(Outcome.REJECTED_OVERLOAD, reason, least_ns, max(1_000_000, int(wait_ns)))


def _lateness_ns(ticket: Ticket, present: Present) -> float:
    """By how much the latest of `ticket` and the strict requests behind it would be late; at most 0: nobody.

    Of the time that `ticket` could wait, what the policy does not grant it counts as taken.
    """
    queue, running, policy, factor, now_ns = present
    rung = policy.floor
    row, times, excess, promised = _line(ticket, queue, running, rung, factor)
    own_ns = float(ticket.rung_ns[rung]) * factor
    busy_ns, busy_beyond_ns = _left(running, now_ns)
    beyond = times[:row] * excess[:row]
    before_ns = busy_ns + float(np.add.reduce(times[:row])) + own_ns
    squares = busy_beyond_ns**2 + float(beyond @ beyond) + (own_ns * ticket.excess) ** 2
    slack_ns = ticket.finish_by_ns - now_ns
    late: float = before_ns + squares**0.5 - slack_ns
    if ticket.strict and ticket.request.pinned is None:
        share = policy.share_of_wait(int(ticket.rungs[rung]), float(ticket.rung_ns[rung]), factor)
        late += (1.0 - share) * max(0.0, slack_ns - own_ns * (1.0 + ticket.excess))
    if row == len(times):
        return late
    ends = latest_ends(times[row:], excess[row:], before_ns, squares)
    ends -= promised[row:]
    return max(late, float(ends[ends.argmax()]) + now_ns)


def _line(
    ticket: Ticket, queue: DeadlineQueue, running: Dispatch | None, rung: int, factor: float
) -> tuple[int, FloatArray, FloatArray, FloatArray]:
    """The row that `ticket` would get, and expected times, excess and promised ends of all others, ``[K]`` each."""
    row = queue.place(ticket)
    times, excess, _, promised = queue.rows
    times = times[:, rung] * factor
    rest_ns = _rest_ns(running)
    if running is None or not rest_ns:
        return row, times, excess, promised
    place = queue.place(running.ticket)  # after this part it waits again, in its own place
    return (
        row + (running.ticket.key < ticket.key),
        np.insert(times, place, rest_ns),
        np.insert(excess, place, running.upper_ns / running.expected_ns - 1.0),
        np.insert(promised, place, running.ticket.promised_ns),
    )


def _left(running: Dispatch | None, now_ns: int) -> tuple[float, float]:
    """What the running part will still take: expected, and how much more it may be."""
    if running is None:
        return 0.0, 0.0
    elapsed = now_ns - running.at_ns
    expected = running.expected_ns - elapsed
    if expected > 0:
        return expected, running.upper_ns - running.expected_ns
    return max(running.upper_ns - elapsed, 0.05 * running.expected_ns), 0.0


def _hopeless(ticket: Ticket, least_ns: int, now_ns: int) -> Refusal | None:
    """Why no load, however light, would let `ticket` keep its budget; None if one would."""
    budget_ns = ticket.request.budget_ns
    if budget_ns is not None and least_ns > budget_ns:
        reason = f"the fastest answer to this takes {least_ns / 1e6:.1f} ms on an idle server"
        return Refusal(Outcome.REJECTED_INFEASIBLE, reason, least_ns, 0)
    if now_ns >= ticket.deadline_ns:
        return Refusal(Outcome.EXPIRED_IN_QUEUE, "the budget ran out before the question could wait", least_ns, 0)
    return None


def _rest_ns(running: Dispatch | None) -> float:
    """What the request whose part is running still needs after that part, as expected."""
    if running is None or running.ticket.gone:
        return 0.0
    left = running.ticket.work.windows - running.first_window - running.windows
    return running.expected_ns / running.windows * left
