"""The waiting line in front of the one inference thread.

All state belongs to the event loop and is touched by no other thread, so there are no locks; only the engine
runs elsewhere.  What is dispatched next (`Waiting`) and under which length configuration (`Choose`, asked at
dispatch, not at arrival) are parameters.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from model_store.length_config import LengthConfiguration
from reading.windows import Window
from server.engine.interface import Engine, WindowLogits


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What came of one job.

    Attributes:
        logits: one per window, in window order.
        configuration: chosen at dispatch.
        queue_ns: from joining the line to dispatch.
        inference_ns: inside the engine, the sum over slices.
    """

    logits: tuple[WindowLogits, ...]
    configuration: LengthConfiguration
    queue_ns: int
    inference_ns: int


@dataclass(eq=False, slots=True)
class Job:
    """Windows of one request in the line.

    Attributes:
        windows: at least one.
        arrival_ns: when the request came, monotonic.
        joined_ns: when it joined the line, monotonic.
        budget_ns: latency budget of the caller; None without one.
        future: gets the result, on the event loop.
        abandoned: nobody waits for it any more; read by the inference thread between slices.
    """

    windows: Sequence[Window]
    arrival_ns: int
    joined_ns: int
    budget_ns: int | None
    future: asyncio.Future[InferenceResult]
    abandoned: bool = field(default=False)


class Waiting(Protocol):
    """An order of service."""

    def push(self, job: Job) -> None:
        """Let `job` wait."""

    def pop(self, now_ns: int) -> Job | None:
        """Take out the job to run next; None if nobody waits."""

    def remove(self, job: Job) -> None:
        """Take `job` out; nothing happens if it does not wait."""

    def __len__(self) -> int: ...


class FirstInFirstOut:
    """Jobs in the order of arrival; every operation takes constant time."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[int, Job] = OrderedDict()

    def push(self, job: Job) -> None:
        """Let `job` wait behind all others."""
        self._jobs[id(job)] = job

    def pop(self, now_ns: int) -> Job | None:  # noqa: ARG002 - other orders look at the time
        """Take out the oldest job."""
        return self._jobs.popitem(last=False)[1] if self._jobs else None

    def remove(self, job: Job) -> None:
        """Take `job` out if it waits."""
        self._jobs.pop(id(job), None)

    def __len__(self) -> int:
        return len(self._jobs)


Choose = Callable[[Job, int], LengthConfiguration]
"""Job and now (monotonic ns) to the length configuration to run it under."""


class InferenceLine:
    """One job at a time through the engine; to be made and used on a running event loop."""

    def __init__(  # noqa: PLR0913 - parts and limits, each by name
        self,
        engine: Engine,
        executor: ThreadPoolExecutor,
        choose: Choose,
        *,
        waiting: Waiting | None = None,
        slice_windows: int = 16,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Make a line.

        Args:
            engine: runs the windows; owned by the caller.
            executor: of one thread, the only one that calls the engine; owned by the caller.
            choose: asked at dispatch.
            waiting: the order of service; first in, first out if not given.
            slice_windows: windows per call of the engine.
            clock_ns: monotonic.
        """
        self._engine = engine
        self._executor = executor
        self._choose = choose
        self._waiting: Waiting = waiting if waiting is not None else FirstInFirstOut()
        self._slice_windows = slice_windows
        self._clock_ns = clock_ns
        self._running: Job | None = None

    @property
    def depth(self) -> int:
        """Jobs that wait, the running one not counted."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether the engine works."""
        return self._running is not None

    async def run(self, windows: Sequence[Window], arrival_ns: int, budget_ns: int | None = None) -> InferenceResult:
        """Wait for the turn of `windows`, then for the engine.

        A cancelled call leaves the line at once; if the engine already works on it, it stops after the
        present slice.

        Raises:
            ValueError: what the engine raises for windows that it cannot run.
        """
        loop = asyncio.get_running_loop()
        job = Job(windows, arrival_ns, self._clock_ns(), budget_ns, loop.create_future())
        self._waiting.push(job)
        self._dispatch()
        try:
            return await job.future
        finally:
            job.abandoned = True
            self._waiting.remove(job)

    def _dispatch(self) -> None:
        """Start the next job if the engine is free."""
        if self._running is not None:
            return
        now_ns = self._clock_ns()
        job = self._waiting.pop(now_ns)
        if job is None:
            return
        self._running = job
        configuration = self._choose(job, now_ns)
        work = asyncio.get_running_loop().run_in_executor(
            self._executor, self._execute, job, configuration, now_ns - job.joined_ns
        )
        work.add_done_callback(lambda done: self._finished(job, done))

    def _finished(self, job: Job, work: asyncio.Future[InferenceResult | None]) -> None:
        """On the event loop: hand over the result and start the next job."""
        self._running = None
        error = None if work.cancelled() else work.exception()
        if not job.future.done():
            if work.cancelled():
                job.future.cancel()
            elif error is not None:
                job.future.set_exception(error)
            else:
                result = work.result()
                assert result is not None, "only an abandoned job has no result"
                job.future.set_result(result)
        self._dispatch()

    def _execute(self, job: Job, configuration: LengthConfiguration, queue_ns: int) -> InferenceResult | None:
        """On the inference thread: all slices; None if the job was abandoned in between."""
        logits: list[WindowLogits] = []
        inference_ns = 0
        for first in range(0, len(job.windows), self._slice_windows):
            if job.abandoned:
                return None
            result = self._engine.run(job.windows[first : first + self._slice_windows], configuration)
            logits.extend(result.logits)
            inference_ns += result.inference_ns
        return InferenceResult(tuple(logits), configuration, queue_ns, inference_ns)
