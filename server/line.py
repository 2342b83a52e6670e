"""Between the router, which decides, and the one inference thread, which works.

All state belongs to the event loop and is touched by no other thread, so there are no locks; only the engine
runs elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model_store.length_config import LengthConfiguration
from server.engine.interface import Engine, EngineResult, WindowLogits, WindowTokens
from server.engine.skimming import lengths_alike, ranked_windows
from server.errors import ExpiredError, InfeasibleBudgetError, OverloadedError
from server.inference_thread import InferenceThread
from server.routing.outcomes import Outcome
from server.routing.router import DispatchError, Router
from server.routing.ticket import Dispatch, Refusal, Request, Ticket


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What came of one job.

    Attributes:
        logits: one per window, in window order.
        configuration: chosen at the first dispatch.
        dispatch: of the first part.
        queue_ns: in the line and not in the engine, the sum over parts.
        inference_ns: inside the engine, the sum over parts.
        ended_ns: when the last part had ended, monotonic.
    """

    logits: tuple[WindowLogits, ...]
    configuration: LengthConfiguration
    dispatch: Dispatch
    queue_ns: int
    inference_ns: int
    ended_ns: int


@dataclass(eq=False, slots=True)
class _Job:
    """Windows of one admitted request, and what has come of them so far; `waits_ns` is since when it waits."""

    windows: Sequence[WindowTokens]
    ticket: Ticket
    future: asyncio.Future[InferenceResult]
    waits_ns: int
    first: Dispatch | None = None
    queue_ns: int = 0
    inference_ns: int = 0
    logits: list[WindowLogits] = field(default_factory=list)


class InferenceLine:
    """One part of one request at a time through the engine; to be made and used on a running event loop."""

    def __init__(  # noqa: PLR0913 - parts, then how
        self,
        engine: Engine,
        thread: InferenceThread,
        configurations: Sequence[LengthConfiguration],
        router: Router,
        *,
        answer_first: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Make a line.

        Args:
            engine: runs the windows; owned by the caller.
            thread: the only one that calls the engine; owned by the caller.
            configurations: cheapest first, as the router counts them.
            router: says who is taken, who is next, and how it is run.
            answer_first: let an answer be made and written before the next request is run. On cores that the engine
                needs for itself the two would only hold each other up: an answer waits for milliseconds then, until
                the scheduler takes the core from the inference.
            clock_ns: monotonic.
        """
        self._engine = engine
        self._thread = thread
        self._configurations = tuple(configurations)
        self._router = router
        self._clock_ns = clock_ns
        self._jobs: dict[Ticket, _Job] = {}
        self._answer_first = answer_first
        self._answering = False

    def ranked(self, windows: Sequence[WindowTokens]) -> Sequence[WindowTokens]:
        """The windows of one question made ready for the engine; from any thread.  See `ranked_windows`."""
        return ranked_windows(self._engine, windows, self._configurations)

    def lengths_alike(self, windows: Sequence[WindowTokens]) -> NDArray[np.int64] | None:
        """Of windows made ready, under the configurations of this line; see `Request`."""
        return lengths_alike(windows, self._configurations)

    @property
    def depth(self) -> int:
        """Jobs that wait, the running one not counted."""
        return self._router.waiting

    async def run(self, windows: Sequence[WindowTokens], request: Request) -> InferenceResult:
        """Wait for the turn of `windows`, then for the engine.

        A cancelled call leaves the line at once; if the engine already works on it, it stops after the
        present part.

        Raises:
            InfeasibleBudgetError: the budget is too small for this work, whatever the load.
            OverloadedError: the budget cannot be kept now, or too many wait.
            ExpiredError: the budget could be kept when the request came, and then no longer.
            ValueError: what the engine raises for windows that it cannot run.
        """
        now_ns = self._clock_ns()
        found = self._router.admit(request, now_ns)
        if isinstance(found, Refusal):
            raise _refused(found)
        job = _Job(windows, found, asyncio.get_running_loop().create_future(), now_ns)
        self._jobs[found] = job
        self._dispatch()
        try:
            return await job.future
        finally:
            self._router.cancel(found)
            self._jobs.pop(found, None)

    def _dispatch(self) -> None:
        """Start the next part if the engine is free.  What fails on the way fails one request, and the line goes on."""
        if self._answering:
            return
        now_ns = self._clock_ns()
        try:
            dispatch, dropped = self._router.dispatch(now_ns)
        except DispatchError as error:
            self._expire(error.dropped)
            self._fail(error.ticket, error.__cause__ or error)
            asyncio.get_running_loop().call_soon(self._dispatch)
            return
        self._expire(dropped)
        if dispatch is None:
            return
        job = self._jobs[dispatch.ticket]
        job.queue_ns += now_ns - job.waits_ns
        job.first = job.first or dispatch
        windows = job.windows[dispatch.first_window : dispatch.first_window + dispatch.windows]
        loop = asyncio.get_running_loop()
        try:
            self._thread.post(partial(self._infer, loop, job, dispatch, windows))
        except RuntimeError as error:  # it was shut down
            self._router.failed(dispatch)
            self._fail(job.ticket, error)
            loop.call_soon(self._dispatch)

    def _infer(
        self, loop: asyncio.AbstractEventLoop, job: _Job, dispatch: Dispatch, windows: Sequence[WindowTokens]
    ) -> None:
        """On the inference thread: run the engine, and tell the event loop."""
        found: EngineResult | BaseException
        try:
            found = self._engine.run(windows, self._configurations[dispatch.configuration])
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            found = error
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(self._finished, job, dispatch, found)

    def _finished(self, job: _Job, dispatch: Dispatch, found: EngineResult | BaseException) -> None:
        """On the event loop: hand over the result and start the next part."""
        if isinstance(found, BaseException):
            self._router.failed(dispatch)
            self._fail(job.ticket, found)
        else:
            self._ended(job, dispatch, found, self._clock_ns())
        self._dispatch()

    def _ended(self, job: _Job, dispatch: Dispatch, found: EngineResult, now_ns: int) -> None:
        job.logits.extend(found.logits)
        job.inference_ns += found.inference_ns
        job.waits_ns = now_ns
        loop = asyncio.get_running_loop()
        whole, waiting = self._router.freed(dispatch), self._router.waiting
        if whole:
            self._succeed(job, now_ns)
        # An answer is made in the loop's next turn, and written: what comes after it is for the turn after that.
        if whole and waiting and self._answer_first:
            self._answering = True
            loop.call_soon(loop.call_soon, self._answered)
        if whole and not waiting:
            loop.call_soon(loop.call_soon, self._router.learn, dispatch, now_ns)
        else:
            self._router.learn(dispatch, now_ns)

    def _answered(self) -> None:
        self._answering = False
        self._dispatch()

    def _succeed(self, job: _Job, now_ns: int) -> None:
        if job.future.done():
            return
        assert job.first is not None
        configuration = self._configurations[job.first.configuration]
        job.future.set_result(
            InferenceResult(tuple(job.logits), configuration, job.first, job.queue_ns, job.inference_ns, now_ns)
        )

    def _expire(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._fail(ticket, ExpiredError("the budget ran out while the question waited"))

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        job = self._jobs.get(ticket)
        if job is None or job.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            job.future.cancel()
        else:
            job.future.set_exception(error)


def _refused(refusal: Refusal) -> InfeasibleBudgetError | OverloadedError | ExpiredError:
    if refusal.outcome is Outcome.EXPIRED_IN_QUEUE:
        return ExpiredError(refusal.reason)
    if refusal.outcome is Outcome.REJECTED_INFEASIBLE:
        return InfeasibleBudgetError(refusal.reason, refusal.min_feasible_ns)
    return OverloadedError(refusal.reason, refusal.retry_after_ns)
