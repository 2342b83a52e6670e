"""The slow loop: what Prometheus says is checked, trims the profile, and costs nothing but a warning when missing."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from server.fleet import (
    MAX_ANSWER_BYTES,
    FleetError,
    FleetLoop,
    FleetReading,
    PollResult,
    Prometheus,
    checked_url,
    value_of,
)
from server.routing.trim import Trim
from server.settings import Settings

DRIFTED = FleetReading(1.5, 10_000)


def answer(*values: object, kind: str = "vector", status: str = "success") -> bytes:
    result = [{"metric": {}, "value": [1_700_000_000.1, value]} for value in values]
    return json.dumps({"status": status, "data": {"resultType": kind, "result": result}}).encode()


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("0", 0.0), ("2e3", 2000.0), ("-1", -1.0)])
def test_the_one_value_of_a_vector_is_read(text: str, value: float) -> None:
    assert value_of(answer(text)) == value


@pytest.mark.parametrize("body", [answer(), answer("NaN"), answer("+Inf"), answer("-Inf")])
def test_no_value_and_no_number_are_no_data(body: bytes) -> None:
    assert value_of(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 60_000,
        b"null",
        b"[]",
        b'{"status": "success"}',
        b'{"status": "success", "data": []}',
        b'{"status": "success", "data": {"resultType": "vector"}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": {}}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": "1"}]}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"histogram": [1, {}]}]}}',
        answer("1.5", status="error"),
        answer("1.5", kind="matrix"),
        answer("1.5", "1.6"),
        answer("many"),
        answer(1.5),
        answer(None),
    ],
)
def test_any_other_answer_is_refused(body: bytes) -> None:
    with pytest.raises(FleetError, match=r"."):
        value_of(body)


@pytest.mark.parametrize("url", ["http://prometheus", "https://prometheus:9090/", "http://[::1]:9090/a/b"])
def test_http_and_https_are_addresses(url: str) -> None:
    assert checked_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        *("", "prometheus:9090", "file:///etc/passwd", "ftp://host", "http://", "http:///path", "http://host:0"),
        *("http://host:70000", "http://host:port", "http://me:secret@host", "http://host/?a=b", "http://host/#a"),
        *("http://host/a b", "http://host/\n", "http://[::1", "http://höst"),
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Prometheus(url, "query", "count")


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://host", "http://", "http://me@host", "http://host/ x"])
def test_a_setting_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="prometheus_url"):
        Settings(prometheus_url=url)


def test_without_a_setting_nobody_is_asked() -> None:
    assert Settings().prometheus_url is None


class Answers:
    """An HTTP server on the loopback that gives one answer per query and remembers what was asked."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {"median": answer("1.5"), "count": answer("120")}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.bodies[query])

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
                """Keep quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def answers() -> Iterator[Answers]:
    served = Answers()
    yield served
    served.close()


def test_median_and_count_are_asked_of_the_query_api(answers: Answers) -> None:
    assert Prometheus(f"{answers.url}/below/", "median", "count").read() == FleetReading(1.5, 120)
    assert answers.asked == ["/below/api/v1/query?query=median", "/below/api/v1/query?query=count"]


def test_a_query_is_escaped(answers: Answers) -> None:
    query = 'sum(rate(a{job="x y"}[5m])) & é'
    answers.bodies[query] = answer("2")
    assert Prometheus(answers.url, query, "count").read().median == 2


def test_no_count_is_no_samples(answers: Answers) -> None:
    answers.bodies["count"] = answer()
    assert Prometheus(answers.url, "median", "count").read() == FleetReading(1.5, 0)


@pytest.mark.parametrize("status", [302, 400, 422, 500, 503])
def test_any_status_but_200_is_a_failure_and_redirects_are_not_followed(answers: Answers, status: int) -> None:
    answers.status, answers.headers = status, {"Location": "/elsewhere?query=median"}
    with pytest.raises(FleetError, match=f"status {status}"):
        Prometheus(answers.url, "median", "count").read()
    assert len(answers.asked) == 1


def test_an_endless_answer_is_cut_off(answers: Answers) -> None:
    answers.bodies["median"] = b" " * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(FleetError, match="longer than"):
        Prometheus(answers.url, "median", "count").read()


def test_an_answer_that_breaks_off_is_a_failure(answers: Answers) -> None:
    answers.bodies["median"], answers.headers = answer("1.5")[:-5], {"Content-Length": "1000"}
    with pytest.raises(FleetError, match="no JSON"):
        Prometheus(answers.url, "median", "count").read()


def test_nobody_there_is_a_failure(answers: Answers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(FleetError, match="no answer"):
        Prometheus(url, "median", "count").read()


def test_a_server_that_says_nothing_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(FleetError, match="no answer"):
            Prometheus(url, "median", "count", timeout_s=0.05).read()


def test_what_speaks_no_http_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(FleetError, match="no answer"):
            Prometheus(f"http://127.0.0.1:{listener.getsockname()[1]}", "median", "count").read()
        thread.join()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "not known"), UnicodeError("label too long")])
def test_a_host_name_that_cannot_be_looked_up_is_a_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def look_up(*_args: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(FleetError, match="no answer"):
        Prometheus("http://prometheus.example", "median", "count").read()


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
