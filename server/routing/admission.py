"""Yes, or no with the reason: no promise is made that could not be kept, and none is broken by a later one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from server.routing.latency_model import LatencyModel, Work
from server.routing.outcomes import Outcome
from server.routing.queue import DeadlineQueue
from server.routing.ticket import Dispatch, Refusal, Request, Ticket

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Admission:
    """Decides on requests, in order of arrival.

    A request with a budget is taken if, at a rung that the policy names and with everyone in order of deadlines, it and
    every request with a budget behind it would end in time: expected times of all before, plus the root of the sum of
    squares of what each may take beyond (`View.rest_in_time` has the same rule).
    """

    def __init__(self, model: LatencyModel, reserve_ns: int, patience_ns: int) -> None:
        self._model = model
        self._reserve_ns = reserve_ns
        self._patience_ns = patience_ns

    def decide(  # noqa: PLR0913 - who, behind whom, when, and by which rule
        self,
        ticket: Ticket,
        queue: DeadlineQueue,
        running: Dispatch | None,
        factor: float,
        now_ns: int,
        *,
        floor: int = 0,
        spares: bool = False,
    ) -> Refusal | None:
        """Why `ticket`, made by `ticket`, must not be pushed into `queue`; None if it may.

        Args:
            ticket: of the request that is offered.
            queue: who waits.
            running: what occupies the engine.
            factor: what the profile's times are multiplied by to be expected now.
            now_ns: of the offer.
            floor: rung at which everyone must be in time.
            spares: whether `ticket` may come in at the cheapest rung, if it is in time there alone; it then counts as
                that for everyone who looks at it at a rung up to the floor.
        """
        request = ticket.request
        least_ns = self._least_budget_ns(ticket, factor, now_ns)
        hopeless = _hopeless(ticket, least_ns, now_ns) if ticket.strict else None
        if hopeless is not None:
            return hopeless
        if queue.full:
            drain_ns = float(queue.times_ns()[:, 0].sum()) * factor
            return _overload("as many requests wait as may", least_ns, drain_ns)
        if request.budget_ns is None:
            return None
        if not ticket.strict:
            ticket.hastened = self._lateness_ns(ticket, queue, running, factor, now_ns, floor) > 0
            return None
        late_ns = self._lateness_ns(ticket, queue, running, factor, now_ns, floor)
        if late_ns > 0 and spares and ticket.rung_ns[0] < ticket.rung_ns[floor]:
            ticket.rung_ns = np.concatenate((np.repeat(ticket.rung_ns[:1], floor + 1), ticket.rung_ns[floor + 1 :]))
            late_ns = self._lateness_ns(ticket, queue, running, factor, now_ns, floor)
        if late_ns > 0:
            return _overload("under the present load the budget cannot be kept", least_ns, late_ns)
        return None

    def may_wait_ns(self, request: Request, work: Work, factor: float, now_ns: int) -> float:
        """How long the engine may let `request` wait; infinite without a budget that must be kept."""
        if request.budget_ns is None or request.best_effort:
            return math.inf
        tails = self._model.tails(work.length_class, now_ns)
        after_ns = self._model.answer_upper_ns(work, factor, now_ns) + self._reserve_ns
        return float(request.arrival_ns + request.budget_ns - now_ns - work.base_ns[0] * factor * tails[0] - after_ns)

    def ticket(  # noqa: PLR0913, PLR0917 - what a ticket says
        self, request: Request, work: Work, rungs: IntArray, sequence: int, factor: float, now_ns: int
    ) -> Ticket:
        """The ticket that `request` would get."""
        tails = self._model.tails(work.length_class, now_ns)
        budget_ns = request.budget_ns
        if budget_ns is None:  # patience is for waiting: the best answer may take its time
            budget_ns = self._patience_ns + int(work.base_ns[-1] * factor * tails[-1])
        deadline_ns = request.arrival_ns + budget_ns
        after_ns = int(self._model.answer_upper_ns(work, factor, now_ns)) + self._reserve_ns
        return Ticket(
            request=request,
            sequence=sequence,
            work=work,
            strict=request.budget_ns is not None and not request.best_effort,
            deadline_ns=deadline_ns,
            finish_by_ns=deadline_ns - after_ns,
            rungs=rungs,
            rung_ns=work.base_ns[rungs],
            excess=float(tails[rungs[0]]) - 1.0,
        )

    def _least_budget_ns(self, ticket: Ticket, factor: float, now_ns: int) -> int:
        """The least budget that an idle server, at the profile's own speed or its present one, keeps for it."""
        factor = min(self._model.trim, factor)
        inference_ns = float(ticket.rung_ns[0]) * factor * (1.0 + ticket.excess)
        after_ns = self._model.answer_upper_ns(ticket.work, factor, now_ns)
        return ticket.request.prepared_ns + int(inference_ns + after_ns) + self._reserve_ns

    def _lateness_ns(  # noqa: PLR0913, PLR0917 - who, behind whom, and when
        self, ticket: Ticket, queue: DeadlineQueue, running: Dispatch | None, factor: float, now_ns: int, rung: int
    ) -> float:
        """By how much the latest of `ticket` and the strict requests behind it would be late; at most 0: nobody."""
        row = queue.place(ticket)
        busy_ns, busy_excess_ns = _left(running, now_ns)
        cheapest, promised = queue.times_ns()[:, rung] * factor, queue.promised_ns()
        squares = queue.excess() * cheapest
        squares *= squares
        rest_ns = _rest_ns(running)
        if running is not None and rest_ns:  # after this part it waits again, in its own place
            place = queue.place(running.ticket)
            cheapest = np.insert(cheapest, place, rest_ns)
            squares = np.insert(squares, place, (rest_ns * (running.upper_ns / running.expected_ns - 1.0)) ** 2)
            promised = np.insert(promised, place, running.ticket.finish_by_ns if running.ticket.strict else np.inf)
            row += running.ticket.key < ticket.key
        own_ns = float(ticket.rung_ns[rung]) * factor
        before_ns = busy_ns + float(np.add.reduce(cheapest[:row])) + own_ns
        before_squares = busy_excess_ns**2 + float(np.add.reduce(squares[:row])) + (own_ns * ticket.excess) ** 2
        late: float = before_ns + before_squares**0.5 - (ticket.finish_by_ns - now_ns)
        if row == len(cheapest):
            return late
        spread = np.add.accumulate(squares[row:])
        spread += before_squares
        ends = np.sqrt(spread, out=spread)
        ends += np.add.accumulate(cheapest[row:])
        ends -= promised[row:]
        return max(late, float(np.maximum.reduce(ends)) + before_ns + now_ns)


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


def _overload(reason: str, least_ns: int, wait_ns: float) -> Refusal:
    return Refusal(Outcome.REJECTED_OVERLOAD, reason, least_ns, max(1_000_000, int(wait_ns)))
