from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from loadtest.client import Exchange, Pool, Target, TargetError, get, reply_of, request_bytes
from loadtest.mixes import Ask, Budget
from reading import SquadRecord

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """A server that answers the n-th request with the n-th response, b"" for closing the connection."""

    def __init__(self, *responses: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._responses = list(responses)
        self.requests: list[bytes] = []
        self.connections = 0
        self.target = Target("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                while data := connection.recv(65_536):
                    self.requests.append(data)
                    response = self._responses.pop(0) if self._responses else b""
                    if not response:
                        break
                    for place in range(0, len(response), 40):  # in pieces, as networks do
                        connection.sendall(response[place : place + 40])

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def scripted(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    with closing(Scripted(*request.param)) as server:
        yield server


def ask(ms: float | None = 50.0, *, tell: bool = True) -> Ask:
    return Ask(SquadRecord("1", "t", "À Lyon.", "Where?", ()), "À Lyon.", Budget("a", ms, tell), "paragraph")


def test_the_bytes_of_a_request() -> None:
    head, _, body = request_bytes(Target("h", 80), ask(), "full", "best-effort").partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /qa HTTP/1.1"
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert int(fields[b"Content-Length"]) == len(body)
    assert fields[b"X-Latency-Budget-ms"] == b"50.000"
    assert fields[b"X-Length-Config"] == b"full"
    assert json.loads(body) == {"question": "Where?", "context": "À Lyon."}


@pytest.mark.parametrize("asked", [ask(None), ask(50.0, tell=False)])
def test_a_budget_that_is_none_or_not_told_is_no_header(asked: Ask) -> None:
    assert b"X-L" not in request_bytes(Target("h", 80), asked, None, None)


@pytest.mark.parametrize("scripted", [(OK, OK, OK)], indirect=True)
def test_a_connection_is_kept(scripted: Scripted) -> None:
    pool = Pool(scripted.target, 5.0)
    pool.open(1)
    for _ in range(3):
        found = pool.exchange(b"x")
        assert (found.body, found.error) == (b"{}", None)
        assert found.ended_ns > found.began_ns
    assert pool.opened == scripted.connections == 1
    pool.close()


@pytest.mark.parametrize(
    "scripted", [(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", OK)], indirect=True
)
def test_a_connection_that_the_server_ends_is_not_used_again(scripted: Scripted) -> None:
    pool = Pool(scripted.target, 5.0)
    assert pool.exchange(b"x").error is None
    assert pool.exchange(b"x").body == b"{}"
    assert pool.opened == 2
    pool.close()


@pytest.mark.parametrize("scripted", [(OK, OK)], indirect=True)
def test_a_connection_that_was_idle_for_long_is_not_used_again(scripted: Scripted) -> None:
    now = [0]
    pool = Pool(scripted.target, 5.0, clock_ns=lambda: now[0])
    assert pool.exchange(b"x").error is None
    now[0] += 3_000_000_001
    assert pool.exchange(b"x").error is None
    assert pool.opened == 2
    pool.close()


@pytest.mark.parametrize("scripted", [(b"",)], indirect=True)
def test_a_broken_connection_is_a_failure_and_not_tried_again(scripted: Scripted) -> None:
    found = Pool(scripted.target, 5.0).exchange(b"x")
    assert found.head == b""
    assert "ConnectionResetError" in (found.error or "")
    assert len(scripted.requests) == 1
    assert reply_of(found).status == 0


@pytest.mark.parametrize("scripted", [(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",)], indirect=True)
def test_patience_ends(scripted: Scripted) -> None:
    found = Pool(scripted.target, 0.2).exchange(b"x")
    assert found.timed_out
    assert reply_of(found).timed_out


@pytest.mark.parametrize("scripted", [(b"HTTP/1.1 200 OK\r\n\r\n",)], indirect=True)
def test_a_response_of_unknown_length_is_a_failure(scripted: Scripted) -> None:
    assert "ValueError" in (Pool(scripted.target, 5.0).exchange(b"x").error or "")


@pytest.mark.parametrize("scripted", [(OK,)], indirect=True)
def test_get(scripted: Scripted) -> None:
    assert get(scripted.target, "/info") == (200, b"{}")
    assert scripted.requests[0].startswith(b"GET /info HTTP/1.1\r\n")


def nobody() -> Target:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return Target("127.0.0.1", int(taken.getsockname()[1]))


def test_where_nobody_listens() -> None:
    target = nobody()
    assert get(target, "/info") == (0, b"")
    assert "ConnectionRefusedError" in (Pool(target, 1.0).exchange(b"x").error or "")
    with pytest.raises(TargetError, match="cannot connect"):
        Pool(target, 1.0).open(1)


@pytest.mark.parametrize("url", ["https://h", "h:80", "http://", "http://h/path", "http://h:99999", ""])
def test_what_is_no_target_is_refused(url: str) -> None:
    with pytest.raises(TargetError):
        Target.of(url)


def test_targets() -> None:
    assert Target.of("http://h") == Target("h", 80)
    assert Target.of("http://127.0.0.1:8000/") == Target("127.0.0.1", 8000)


def exchange(head: str, body: object) -> Exchange:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(0, 1, head.replace("\n", "\r\n").encode() + b"\r\n\r\n", content)


def test_what_an_answer_says() -> None:
    head = (
        "HTTP/1.1 200 OK\nX-Length-Config: half\nX-Expected-F1: 79.50\nX-Latency-Budget-Met: false\n"
        "Server-Timing: queue;dur=1.0, total;dur=12.25"
    )
    found = reply_of(exchange(head, {"answers": [{"text": "Lyon"}, {"text": "Paris"}]}))
    assert (found.status, found.answer, found.configuration, found.expected_f1) == (200, "Lyon", "half", 79.5)
    assert (found.said_met, found.server_ms) == (False, 12.25)


@pytest.mark.parametrize(("body", "answer"), [({"answers": []}, ""), ({}, None), (b"<html>", None), ([1], None)])
def test_bodies_without_an_answer(body: object, answer: str | None) -> None:
    assert reply_of(exchange("HTTP/1.1 200 OK\nX-Expected-F1: x", body)).answer == answer


def test_what_a_refusal_says() -> None:
    found = reply_of(exchange("HTTP/1.1 503 Service Unavailable", {"type": "urn:leeway:problem:overloaded"}))
    assert (found.status, found.problem, found.answer) == (503, "urn:leeway:problem:overloaded", None)
