"""One policy through one trace: a discrete-event simulation of one engine."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.adapter import Routes
from benchmarks.simulation.trace import NO_BUDGET, IntArray, Trace
from benchmarks.simulation.world import FloatArray, World
from server.routing.outcomes import Outcome
from server.routing.ticket import Dispatch, Refusal, Request, Ticket

NOT_SERVED = -1

_Answer = tuple[int, int, int, Dispatch]  # when, order, end of inference, what ran last


@dataclass(frozen=True)
class Ends:
    """What became of the requests of a trace, in its order.

    Attributes:
        outcome: exactly one each.
        configuration: index that it was served under, int64 ``[n]``; `NOT_SERVED` if it was not.
        answered_ns: when the answer was out, int64 ``[n]``; `NOT_SERVED` if there was none.
    """

    outcome: tuple[Outcome, ...]
    configuration: IntArray
    answered_ns: IntArray


class Simulation:
    """Events by time: a request arrives (and has been tokenized), inference ends, an answer is out.

    Inference occupies the engine; what follows it, until the answer is out, runs beside the next inference.  Both take
    their typical time, times the request's residual, at the host's speed of that moment.  Of events at the same
    nanosecond answers come first, then the end of inference, then arrivals.
    """

    def __init__(self, trace: Trace, world: World, router: Routes) -> None:
        self._trace = trace
        self._world = world
        self._router = router
        self._ready = trace.ready_ns(world)
        self._order = np.argsort(self._ready, kind="stable").tolist()
        self._outcome: list[Outcome | None] = [None] * len(trace)
        self._configuration = np.full(len(trace), NOT_SERVED, dtype=np.int64)
        self._answered = np.full(len(trace), NOT_SERVED, dtype=np.int64)
        self._admitted: dict[int, tuple[int, Ticket]] = {}
        self._running: tuple[int, Dispatch] | None = None
        self._answers: list[_Answer] = []
        self._times: dict[tuple[int, ...], FloatArray] = {}

    def run(self) -> Ends:
        """Run until everything has ended.

        Raises:
            RuntimeError: a request was lost, or ended twice.
        """
        ready = self._ready.tolist()
        arrivals = iter(self._order)
        coming = next(arrivals, None)
        while coming is not None or self._running or self._answers:
            next_arrival = ready[coming] if coming is not None else np.inf
            next_end = self._running[0] if self._running else np.inf
            if self._answers and self._answers[0][0] <= min(next_end, next_arrival):
                self._answer(heapq.heappop(self._answers))
            elif self._running and next_end <= next_arrival:
                self._end_inference(*self._running)
            elif coming is not None:
                self._arrive(coming, ready[coming])
                coming = next(arrivals, None)
        lost = self._outcome.count(None)
        if lost:
            raise RuntimeError(f"{lost} of {len(self._trace)} requests were lost")
        outcomes = tuple(each for each in self._outcome if each is not None)
        return Ends(outcomes, self._configuration, self._answered)

    def _arrive(self, index: int, now_ns: int) -> None:
        budget = int(self._trace.budget_ns[index])
        request = Request(
            window_lengths=self._trace.windows[index],
            arrival_ns=int(self._trace.arrival_ns[index]),
            budget_ns=None if budget == NO_BUDGET else budget,
        )
        found = self._router.admit(request, now_ns)
        if isinstance(found, Refusal):
            self._set(index, found.outcome)
            return
        self._admitted[id(found)] = (index, found)
        if self._running is None:
            self._start(now_ns)

    def _start(self, now_ns: int) -> None:
        dispatch, dropped = self._router.dispatch(now_ns)
        for ticket in dropped:
            self._set(self._admitted.pop(id(ticket))[0], Outcome.EXPIRED_IN_QUEUE)
        if dispatch is None:
            self._running = None
            return
        index = self._admitted[id(dispatch.ticket)][0]
        windows = self._trace.windows[index][dispatch.first_window : dispatch.first_window + dispatch.windows]
        if windows not in self._times:
            self._times[windows] = self._world.inference_ns(windows)
        work = float(self._times[windows][dispatch.configuration] * self._trace.residual[index])
        self._running = (self._trace.host.end_ns(now_ns, work), dispatch)

    def _end_inference(self, now_ns: int, dispatch: Dispatch) -> None:
        self._running = None
        index, ticket = self._admitted[id(dispatch.ticket)]
        before = self._configuration[index]
        cheaper = dispatch.configuration if before == NOT_SERVED else min(before, dispatch.configuration)
        self._configuration[index] = cheaper
        if self._router.finished(dispatch, now_ns):
            work = self._world.answer_ns(len(ticket.request.window_lengths)) * float(self._trace.residual[index])
            heapq.heappush(self._answers, (self._trace.host.end_ns(now_ns, work), index, now_ns, dispatch))
        self._start(now_ns)

    def _answer(self, answer: _Answer) -> None:
        now_ns, index, inferred_ns, dispatch = answer
        del self._admitted[id(dispatch.ticket)]
        budget = int(self._trace.budget_ns[index])
        in_time = budget == NO_BUDGET or now_ns <= int(self._trace.arrival_ns[index]) + budget
        self._answered[index] = now_ns
        self._set(index, Outcome.SERVED_IN_BUDGET if in_time else Outcome.SERVED_LATE)
        self._router.answered(dispatch, now_ns - inferred_ns)

    def _set(self, index: int, outcome: Outcome) -> None:
        if self._outcome[index] is not None:
            raise RuntimeError(f"request {index} ended as {self._outcome[index]} and then as {outcome}")
        self._outcome[index] = outcome


def simulate(trace: Trace, world: World, router: Routes) -> Ends:
    """What becomes of `trace` on `world` under `router`.

    Raises:
        RuntimeError: a request was lost, or ended twice.
    """
    return Simulation(trace, world, router).run()
