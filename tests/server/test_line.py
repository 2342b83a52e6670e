"""The line under a clock of the test's own: expiry, slices, and callers that give up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from reading.windows import Window
from server.engine.fake import FakeEngine
from server.errors import ExpiredError, OverloadedError
from server.inference_thread import InferenceThread
from server.line import InferenceLine
from server.model import LoadedModel
from server.routing.latency_model import LatencyModel
from server.routing.policy import LookAhead
from server.routing.router import Router, RoutingSettings
from server.routing.ticket import Request
from tests.server.fixtures import fake_model, tiny_profile

MS = 1_000_000


class Clock:
    """Stands still until it is moved."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Bench:
    """A line over a fake engine that is held by a gate."""

    def __init__(self, thread: InferenceThread, *, answer_first: bool = False, **limits: int) -> None:
        self.gate = threading.Event()
        self.clock = Clock()
        self.model: LoadedModel = fake_model(self.gate)
        latency = LatencyModel(tiny_profile(self.model))
        f1 = np.array([point.held_out_f1 for point in self.model.table.points])
        self.router = Router(self.model.table, latency, LookAhead(f1), RoutingSettings(**limits))
        parts = (self.model.engine, thread, self.model.configurations, self.router)
        self.line = InferenceLine(*parts, answer_first=answer_first, clock_ns=self.clock)

    @property
    def engine(self) -> FakeEngine:
        assert isinstance(self.model.engine, FakeEngine)
        return self.model.engine

    async def run(self, budget_ms: int | None = None, windows: int = 1) -> str:
        """Ask for so many windows of 30 tokens; the configuration that answered."""
        budget_ns = None if budget_ms is None else budget_ms * MS
        request = Request((30,) * windows, self.clock(), budget_ns)
        result = await self.line.run([window() for _ in range(windows)], request)
        assert len(result.logits) == windows
        return result.configuration.id


def window() -> Window:
    ids = np.arange(30, dtype=np.int32)
    return Window(ids, 4, 0, 25)


@contextmanager
def bench(*, answer_first: bool = False, **limits: int) -> Iterator[Bench]:
    with InferenceThread() as thread:
        made = Bench(thread, answer_first=answer_first, **limits)
        try:
            yield made
        finally:
            made.gate.set()


async def test_who_runs_out_of_time_in_the_queue_is_told_so_and_never_run() -> None:
    with bench() as held:
        first = asyncio.create_task(held.run())
        second = asyncio.create_task(held.run(budget_ms=50))
        third = asyncio.create_task(held.run(budget_ms=500))
        await asyncio.sleep(0)
        assert held.line.depth == 2
        held.clock.now_ns = 60 * MS
        held.gate.set()
        assert await first == "full"
        with pytest.raises(ExpiredError):
            await second
        assert await third == "full"
        assert held.engine.calls == 2


async def test_an_urgent_question_passes_between_the_parts_of_a_long_text() -> None:
    with bench(slice_ns=1) as held:
        ended: list[str] = []

        async def ask(name: str, budget_ms: int, windows: int) -> None:
            await held.run(budget_ms, windows)
            ended.append(name)

        long = asyncio.create_task(ask("long", 5_000, 30))
        await asyncio.sleep(0)
        urgent = asyncio.create_task(ask("urgent", 500, 1))
        await asyncio.sleep(0)
        held.gate.set()
        await asyncio.gather(long, urgent)
        assert ended == ["urgent", "long"]
        assert held.engine.calls == 31


async def test_a_failing_engine_fails_its_request_and_no_other() -> None:
    with bench() as held:
        held.gate.set()
        run, calls = held.engine.run, iter([True, False])

        def sometimes(*arguments: object) -> object:
            if next(calls):
                raise RuntimeError("out of memory")
            return run(*arguments)  # type: ignore[arg-type]

        held.engine.run = sometimes  # type: ignore[assignment, method-assign]
        first, second = asyncio.create_task(held.run()), asyncio.create_task(held.run())
        with pytest.raises(RuntimeError, match="out of memory"):
            await first
        assert await second == "full"


async def test_a_policy_that_fails_fails_its_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as held:
        first, second, third = (asyncio.create_task(held.run()) for _ in range(3))
        await asyncio.sleep(0)
        choose, calls = held.router.policy.choose, iter([True, False])
        monkeypatch.setattr(held.router.policy, "choose", lambda view: 1 // 0 if next(calls) else choose(view))
        held.gate.set()
        assert await first == "full"
        with pytest.raises(ZeroDivisionError):
            await second
        assert await third == "full"
        assert (held.line.depth, held.router.running) == (0, None)


async def test_nobody_waits_for_ever_for_a_thread_that_was_shut_down() -> None:
    with InferenceThread() as thread:
        held = Bench(thread)
        waiting = [asyncio.create_task(held.run()) for _ in range(3)]
        await asyncio.sleep(0)
        thread.shutdown(wait=False)
        held.gate.set()
        first, *others = await asyncio.gather(*waiting, return_exceptions=True)
        assert first == "full"
        assert all(isinstance(each, RuntimeError) for each in others)


async def test_a_cancelled_long_text_stops_after_the_present_part() -> None:
    with bench(slice_ns=1) as held:
        long = asyncio.create_task(held.run(windows=30))
        await asyncio.sleep(0)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        held.gate.set()
        assert await held.run() == "full"
        assert held.engine.calls == 2
        assert held.line.depth == 0


async def test_a_refused_request_leaves_nothing_behind() -> None:
    with bench(capacity=1) as held:
        waiting = [asyncio.create_task(held.run()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await held.run()
        held.gate.set()
        assert await asyncio.gather(*waiting) == ["full", "full"]


async def test_a_storm_of_callers_that_come_and_go_loses_nobody() -> None:
    with bench(capacity=500) as held:
        held.gate.set()
        random = np.random.default_rng(0)
        tasks = []
        for number in range(300):
            tasks.append(asyncio.create_task(held.run(windows=1 + number % 3)))
            if random.random() < 0.5:
                await asyncio.sleep(0)
            if random.random() < 0.4:
                tasks[int(random.integers(len(tasks)))].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, str | asyncio.CancelledError) for end in ends)
        assert held.line.depth == 0
        assert held.router.running is None
        assert await held.run() == "full"


@pytest.mark.parametrize("answer_first", [False, True])
async def test_the_next_request_is_run_after_the_answer_is_made_if_so_wished(*, answer_first: bool) -> None:
    with bench(answer_first=answer_first) as held:
        running: list[bool] = []

        async def ask() -> None:
            await held.run()
            running.append(held.router.running is not None)

        asked = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
        held.gate.set()
        await asyncio.gather(*asked)
        assert running == [not answer_first, not answer_first, False]
        assert held.engine.calls == 3


async def test_who_comes_while_an_answer_is_made_waits_for_that_too() -> None:
    with bench(answer_first=True) as held:
        later: list[asyncio.Task[str]] = []

        async def ask() -> None:
            await held.run()
            later.append(asyncio.create_task(held.run()))
            await asyncio.sleep(0)
            assert held.router.running is None

        asked = [asyncio.create_task(ask()), asyncio.create_task(held.run())]
        await asyncio.sleep(0)
        held.gate.set()
        await asyncio.gather(*asked)
        assert await later[0] == "full"
