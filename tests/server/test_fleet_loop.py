"""The slow loop: readings trim the profile, and cost nothing but a warning when missing."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from server.fleet import FleetError, FleetLoop, FleetReading, PollResult
from server.routing.trim import Trim

DRIFTED = FleetReading(1.5, 10_000)


class Source:
    """A source of readings and failures, one per poll; the last one stays."""

    def __init__(self, *readings: FleetReading | Exception) -> None:
        self.readings = list(readings)

    def read(self) -> FleetReading:
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


class Heard:
    """What a loop told its callbacks."""

    def __init__(self) -> None:
        self.trims: list[float] = []
        self.results: list[PollResult] = []
        self.now_ns = 0

    def clock_ns(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def loop(self, source: Any, **options: Any) -> FleetLoop:
        return FleetLoop(source, self.trims.append, on_poll=self.results.append, clock_ns=self.clock_ns, **options)


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_readings_move_the_trim_toward_the_drift(heard: Heard) -> None:
    loop = heard.loop(Source(DRIFTED))
    for _ in range(10):
        await loop.poll()
    assert heard.results == ["read"] * 10
    assert heard.trims == sorted(heard.trims)
    assert heard.trims[-1] == loop.trim.value == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("reading", [FleetReading(None, 10_000), FleetReading(1.5, 99), FleetReading(-1.0, 10_000)])
async def test_no_data_moves_nothing_and_is_no_outage(
    heard: Heard, reading: FleetReading, caplog: pytest.LogCaptureFixture
) -> None:
    loop = heard.loop(Source(reading))
    assert await loop.poll() == "no_data"
    assert (heard.trims, heard.results, loop.failing, caplog.records) == ([], ["no_data"], False, [])


async def test_an_outage_changes_nothing_and_is_told_once_and_its_end_once(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "leeway")
    down = FleetError("no answer: refused")
    loop = heard.loop(Source(DRIFTED, down, down, down, DRIFTED, DRIFTED, down))
    results = [await loop.poll() for _ in range(7)]
    assert results == heard.results == ["read", "failed", "failed", "failed", "read", "read", "failed"]
    assert len(heard.trims) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"Prometheus: no answer: refused; the profile's trim stays at {heard.trims[0]:.3f}",
        "Prometheus answers again",
        f"Prometheus: no answer: refused; the profile's trim stays at {heard.trims[2]:.3f}",
    ]
    assert loop.failing


async def test_a_trim_of_ones_own_is_moved(heard: Heard) -> None:
    trim = Trim(gain=1.0, least_samples=1)
    await heard.loop(Source(FleetReading(0.8, 1)), trim=trim).poll()
    assert heard.trims == [trim.value] == [pytest.approx(0.8)]


class Turns:
    """Stands in for sleeping: a test lets the loop go on."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.reached.set()
        await self.go.wait()
        self.go.clear()

    async def polled(self) -> None:
        await self.reached.wait()
        self.reached.clear()


async def test_it_polls_at_once_and_then_every_so_many_seconds_until_stopped(heard: Heard) -> None:
    turns = Turns()
    loop = heard.loop(Source(DRIFTED), seconds=7, sleep=turns.sleep)
    loop.start()
    loop.start()
    for _ in range(3):
        await turns.polled()
        turns.go.set()
    await turns.polled()
    await loop.stop()
    await loop.stop()
    assert heard.results == ["read"] * 4
    assert turns.asked == [7] * 4


async def test_it_may_be_stopped_before_it_starts_and_started_again(heard: Heard) -> None:
    turns = Turns()
    loop = heard.loop(Source(DRIFTED), sleep=turns.sleep)
    await loop.stop()
    for _ in range(2):
        loop.start()
        await turns.polled()
        await loop.stop()
    assert heard.results == ["read"] * 2


async def test_a_defect_in_a_callback_or_a_source_does_not_end_it(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    turns = Turns()
    loop = heard.loop(Source(TypeError("a defect"), DRIFTED), sleep=turns.sleep)
    loop.start()
    await turns.polled()
    turns.go.set()
    await turns.polled()
    await loop.stop()
    assert heard.results == ["read"]
    assert [record.exc_text is not None or record.exc_info is not None for record in caplog.records] == [True]


class Stuck:
    """A source that answers only when it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.thread: threading.Thread | None = None

    def read(self) -> FleetReading:
        self.thread = threading.current_thread()
        self.entered.set()
        self.released.wait()
        return DRIFTED

    def finish(self) -> None:
        self.released.set()
        assert self.thread is not None
        self.thread.join()


async def stopped_while_asking(loop: FleetLoop, source: Stuck) -> None:
    loop.start()
    await asyncio.to_thread(source.entered.wait)
    await loop.stop()


async def test_stopping_does_not_wait_for_a_query_and_ignores_its_answer(heard: Heard) -> None:
    source = Stuck()
    await stopped_while_asking(heard.loop(source), source)
    assert source.thread is not None
    assert source.thread.daemon
    source.finish()
    await asyncio.sleep(0)
    assert (heard.trims, heard.results) == ([], [])


def test_an_answer_after_the_event_loop_has_closed_is_ignored(heard: Heard) -> None:
    source = Stuck()
    asyncio.run(stopped_while_asking(heard.loop(source), source))
    source.finish()
    assert heard.results == []


async def test_requests_go_on_while_prometheus_is_asked(heard: Heard) -> None:
    source = Stuck()
    asking = asyncio.create_task(heard.loop(source).poll())
    await asyncio.to_thread(source.entered.wait)
    assert not asking.done()
    source.released.set()
    assert await asking == "read"
