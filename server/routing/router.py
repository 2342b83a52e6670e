"""Admission, queue and dispatch of one process: the mechanism around the policy.

Single-threaded and without a clock: every call says what time it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_store.pareto import ParetoTable
from server.routing.admission import Admission, Present
from server.routing.latency_model import LatencyModel, Work
from server.routing.policy import Policy, View
from server.routing.queue import DeadlineQueue
from server.routing.ticket import Dispatch, Refusal, Request, Ticket

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Limits of the router, all times integer nanoseconds.

    Attributes:
        capacity: requests that may wait.
        reserve_ns: kept back from each budget for what this side of the socket cannot see.
        patience_ns: when a request without a budget should be served, counted from its arrival.
        slice_ns: a longer request is run in parts of about this, between which a more urgent one may go first.
        probe_ns: a configuration not observed for this long is tried on a request without a budget; 0 never.
    """

    capacity: int = 64
    reserve_ns: int = 1_000_000
    patience_ns: int = 1_000_000_000
    slice_ns: int = 40_000_000
    probe_ns: int = 60_000_000_000


class DispatchError(Exception):
    """The policy failed; its error is the cause.

    Attributes:
        ticket: of the request that it failed on, no longer in the queue.
        dropped: who was dropped before, being out of time.
    """

    def __init__(self, ticket: Ticket, dropped: list[Ticket]) -> None:
        super().__init__("the policy failed")
        self.ticket = ticket
        self.dropped = dropped


class Router:
    """Takes requests or refuses them, and says which one runs next and how; one part of a request runs at a time.

    Attributes:
        model: predicts and learns.
        policy: chooses configurations.
        ceiling: richest configuration that requests without a budget may have; set from outside by the load.
    """

    def __init__(
        self,
        table: ParetoTable,
        model: LatencyModel,
        policy: Policy,
        settings: RoutingSettings = RoutingSettings(),
    ) -> None:
        """Tie the parts together.

        Raises:
            ValueError: table and profile name different configurations.
        """
        ids = tuple(point.id for point in table.points)
        if ids != model.profile.configurations:
            raise ValueError(f"the profile is of {model.profile.configurations}, the Pareto table of {ids}")
        self.model = model
        self.policy = policy
        self.settings = settings
        self.f1: FloatArray = np.array([point.held_out_f1 for point in table.points])
        self.ceiling = len(ids) - 1
        rungs = len(policy.ladder(model.work((1,)).base_ns))
        self._queue = DeadlineQueue(settings.capacity, rungs)
        self._admission = Admission(model, settings.reserve_ns, settings.patience_ns)
        self._running: Dispatch | None = None
        self._sequence = 0
        self._last_probe_ns = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> Dispatch | None:
        """What occupies the engine."""
        return self._running

    def admit(self, request: Request, now_ns: int) -> Ticket | Refusal:
        """Let `request` wait, or say why not."""
        work = self.model.work(request.window_lengths, request.lengths_alike)
        factor = self.model.factor(now_ns)
        tails = self.model.tails(work.length_class, now_ns)
        limits_ns = self._admission.limits_ns(request, work, factor, float(tails[-1]), now_ns)
        strict = request.budget_ns is not None and not request.best_effort
        least_ns = float(work.base_ns[0]) * factor * float(tails[0])
        may_wait_ns = limits_ns[1] - now_ns - least_ns if strict else math.inf
        busy = self._running is not None or len(self._queue) > 0
        self.policy.arrived(work.base_ns, may_wait_ns, now_ns, busy=busy)
        ticket = self._ticket(request, work, strict=strict, limits_ns=limits_ns, tails=tails)
        refusal = self._admission.decide(ticket, Present(self._queue, self._running, self.policy, factor, now_ns))
        if refusal is not None:
            return refusal
        self._queue.push(ticket)
        return ticket

    def dispatch(self, now_ns: int) -> tuple[Dispatch | None, list[Ticket]]:
        """What to run now, if the engine is free and somebody waits; and who was dropped, being out of time.

        A request is dropped when even the cheapest configuration it may have would, as expected, end too late.

        Raises:
            DispatchError: the policy failed on the head, which is taken out of the queue.
        """
        dropped: list[Ticket] = []
        if self._running is not None:
            return None, dropped
        while len(self._queue):
            ticket = self._queue.pop()
            factor = self.model.factor(now_ns)
            if (
                ticket.strict
                and not ticket.hastened
                and now_ns + float(ticket.rung_ns[0]) * factor > ticket.finish_by_ns
            ):
                dropped.append(ticket)
                continue
            try:
                self._running = self._start(ticket, factor, now_ns)
            except Exception as error:
                raise DispatchError(ticket, dropped) from error
            return self._running, dropped
        return None, dropped

    def finished(self, dispatch: Dispatch, now_ns: int) -> bool:
        """The part has run until `now_ns`: `learn` and `freed` in one."""
        self.learn(dispatch, now_ns)
        return self.freed(dispatch)

    def freed(self, dispatch: Dispatch) -> bool:
        """The part has run; the engine is free, and what is left of the request waits again.  Whether nothing is."""
        self._free(dispatch)
        ticket = dispatch.ticket
        ticket.windows_done += dispatch.windows
        left = ticket.work.windows - ticket.windows_done
        if left == 0 or ticket.gone:
            return True
        ticket.rung_ns = np.full(
            len(ticket.rung_ns), ticket.work.base_ns[dispatch.configuration] * left / ticket.work.windows
        )
        ticket.rungs = np.full(len(ticket.rungs), dispatch.configuration)
        self._queue.push(ticket)
        return False

    def failed(self, dispatch: Dispatch) -> None:
        """The part has not run, or not to its end, and nothing more of the request will; the engine is free."""
        self._free(dispatch)

    def learn(self, dispatch: Dispatch, ended_ns: int) -> None:
        """Let predictions follow the time that a part took; may come after the next decision."""
        work = dispatch.ticket.work
        self.model.observe(
            work,
            dispatch.configuration,
            share=dispatch.windows / work.windows,
            expected_ns=dispatch.expected_ns,
            observed_ns=ended_ns - dispatch.at_ns,
            now_ns=ended_ns,
        )

    def cancel(self, ticket: Ticket) -> bool:
        """The caller is gone; whether the request still waited.  A part that runs is not put back."""
        ticket.gone = True
        return self._queue.remove(ticket)

    def _free(self, dispatch: Dispatch) -> None:
        assert dispatch is self._running, "one part runs at a time"
        self._running = None

    def _ticket(
        self, request: Request, work: Work, *, strict: bool, limits_ns: tuple[int, int], tails: FloatArray
    ) -> Ticket:
        rungs = self.policy.ladder(work.base_ns)
        if request.pinned is not None:
            rungs = np.full(len(rungs), request.pinned)
        self._sequence += 1
        return Ticket(
            request=request,
            sequence=self._sequence,
            work=work,
            strict=strict,
            deadline_ns=limits_ns[0],
            finish_by_ns=limits_ns[1],
            rungs=rungs,
            rung_ns=work.base_ns[rungs],
            excess=float(tails[rungs[0]]) - 1.0,
        )

    def _start(self, ticket: Ticket, factor: float, now_ns: int) -> Dispatch:
        work = ticket.work
        if ticket.configuration is None:
            ticket.configuration = self._choose(ticket, factor, now_ns)
        configuration = ticket.configuration
        window_ns = float(work.base_ns[configuration]) / work.windows * factor
        left = work.windows - ticket.windows_done
        windows = min(left, max(1, int(self.settings.slice_ns / window_ns)))
        tail = float(self.model.tails(work.length_class, now_ns)[configuration])
        answer_ns = self.model.answer_upper_ns(work, factor, now_ns)
        left_ns = left * window_ns
        end_ns = now_ns + left_ns * tail + self.model.stall_ns(math.inf, left_ns) + answer_ns
        self.policy.started(windows * window_ns, now_ns)
        return Dispatch(
            ticket=ticket,
            configuration=configuration,
            first_window=ticket.windows_done,
            windows=windows,
            at_ns=now_ns,
            factor=factor,
            expected_ns=windows * window_ns,
            upper_ns=windows * window_ns * tail,
            predicted_latency_ns=int(end_ns) - ticket.request.arrival_ns,
        )

    def _choose(self, ticket: Ticket, factor: float, now_ns: int) -> int:
        if ticket.request.pinned is not None:
            return ticket.request.pinned
        if ticket.hastened:
            return 0
        view = self._view(ticket, factor, now_ns)
        chosen = self.policy.choose(view)
        if ticket.request.budget_ns is not None:
            return chosen
        return self._probed(min(chosen, self.ceiling), now_ns)

    def _probed(self, chosen: int, now_ns: int) -> int:
        """`chosen`, or a cheaper configuration that has not been observed for long; not often."""
        pause_ns = self.settings.probe_ns // len(self.f1)
        if not self.settings.probe_ns or len(self._queue) or now_ns - self._last_probe_ns < pause_ns:
            return chosen
        stale = self.model.stalest(now_ns, self.settings.probe_ns, chosen)
        if stale is None:
            return chosen
        self._last_probe_ns = now_ns
        return stale

    def _part_ns(self, typical_ns: FloatArray, windows: int) -> FloatArray:
        """What of a request runs without a break, ``[C]``: all of it, or as many windows as fit a slice."""
        if windows == 1:
            return typical_ns
        window_ns = typical_ns / windows
        return window_ns * np.clip(self.settings.slice_ns // window_ns, 1, windows)

    def _view(self, ticket: Ticket, factor: float, now_ns: int) -> View:
        typical = ticket.work.base_ns * factor
        upper = typical * self.model.tails(ticket.work.length_class, now_ns)
        slack_ns = float(ticket.finish_by_ns - now_ns)
        if ticket.strict:
            upper += self.model.stall_ns(slack_ns - float(upper[0]), float(typical[-1]))
        times, excess, finish_by, promised = self._queue.rows
        rest_slack_ns = finish_by - now_ns
        counts: NDArray[np.bool_] = np.add.accumulate(times[:, 0]) * factor <= rest_slack_ns
        if ticket.strict:
            counts &= promised < np.inf
        return View(
            now_ns=now_ns,
            head_typical_ns=typical,
            head_upper_ns=upper,
            head_slack_ns=slack_ns,
            head_part_ns=self._part_ns(typical, ticket.work.windows),
            head_strict=ticket.strict,
            head_rungs=ticket.rungs,
            rest_base_ns=times,
            rest_excess=excess,
            rest_slack_ns=rest_slack_ns,
            rest_counts=counts,
            factor=factor,
        )
