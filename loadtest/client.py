"""HTTP/1.1 over kept-alive connections: bytes made before, the clock stopped before anything is parsed.

Plain sockets of the standard library: under Locust they are gevent's.  The pool has no upper end, as waiting for a
connection would close the loop; a connection that a request needs and that is not there is opened on its time.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.mixes import Ask
from loadtest.outcomes import Reply

IDLE_SECONDS = 3.0
"""An older idle connection is not used again: servers close theirs (uvicorn after 5 s), maybe at this very moment."""

_CHUNK = 65_536
_END_OF_HEAD = b"\r\n\r\n"
_TOTAL = re.compile(r"\btotal;dur=([0-9.]+)")


class TargetError(Exception):
    """A server that cannot be tested; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Target:
        """The target of a URL such as ``http://127.0.0.1:8000``.

        Raises:
            TargetError: it is no such URL.
        """
        parts = urlsplit(url)
        try:
            port = parts.port or 80
        except ValueError as error:
            raise TargetError(f"{url}: {error}") from error
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise TargetError(f"{url} is not of the form http://HOST:PORT")
        return cls(parts.hostname, port)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the bytes that came back.

    Attributes:
        began_ns: when it was taken up, before a connection was looked for, monotonic.
        ended_ns: when the last byte had come, or all hope was lost, monotonic.
        head: of the response, with its end; empty without one.
        body: of the response.
        error: why there is no response.
        timed_out: the time was over.
    """

    began_ns: int
    ended_ns: int
    head: bytes = b""
    body: bytes = b""
    error: str | None = None
    timed_out: bool = False


def request_bytes(target: Target, ask: Ask, length_config: str | None, policy: str | None) -> bytes:
    """All bytes of the ``POST /qa`` that `ask` is."""
    body = json.dumps({"question": ask.record.question, "context": ask.context}).encode()
    budget = f"{ask.budget.ms:.3f}" if ask.budget.ms is not None and ask.budget.tell else None
    fields = {
        "Host": f"{target.host}:{target.port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Latency-Budget-ms": budget,
        "X-Length-Config": length_config,
        "X-Latency-Budget-Policy": policy,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"POST /qa HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


class Pool:
    """Connections to one server, the last one used first.

    Attributes:
        opened: connections opened so far.
    """

    def __init__(self, target: Target, timeout_seconds: float, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._target = target
        self._timeout_ns = round(timeout_seconds * 1e9)
        self._clock_ns = clock_ns
        self._idle: list[tuple[socket.socket, int]] = []
        self.opened = 0

    def open(self, count: int) -> None:
        """Have `count` connections ready.

        Raises:
            TargetError: nobody listens there.
        """
        try:
            made = [self._connect(self._timeout_ns) for _ in range(count - len(self._idle))]
        except OSError as error:
            raise TargetError(f"cannot connect to {self._target.host}:{self._target.port}: {error}") from error
        self._idle += [(each, self._clock_ns()) for each in made]

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop()[0].close()

    def exchange(self, request: bytes) -> Exchange:
        """Send `request` and wait for the whole response, within the time limit."""
        began_ns = self._clock_ns()
        end_ns = began_ns + self._timeout_ns
        connection = None
        try:
            connection = self._ready() or self._connect(self._timeout_ns)
            connection.sendall(request)
            head, body = self._response(connection, end_ns)
        except (OSError, ValueError) as error:
            ended_ns = self._clock_ns()
            if connection is not None:
                connection.close()
            reason = f"{type(error).__name__}: {error}"
            return Exchange(began_ns, ended_ns, error=reason, timed_out=isinstance(error, TimeoutError))
        ended_ns = self._clock_ns()
        if _field(head, b"connection").lower() == b"close":
            connection.close()
        else:
            self._idle.append((connection, ended_ns))
        return Exchange(began_ns, ended_ns, head, body)

    def _connect(self, timeout_ns: int) -> socket.socket:
        made = socket.create_connection((self._target.host, self._target.port), timeout_ns / 1e9)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened += 1
        return made

    def _ready(self) -> socket.socket | None:
        """An idle connection that the server has not closed."""
        while self._idle:
            found, since_ns = self._idle.pop()
            if self._clock_ns() - since_ns < IDLE_SECONDS * 1e9 and not _readable(found):
                return found
            found.close()
        return None

    def _response(self, connection: socket.socket, end_ns: int) -> tuple[bytes, bytes]:
        data = bytearray()
        while (end := data.find(_END_OF_HEAD)) < 0:
            data += self._chunk(connection, end_ns)
        head = bytes(data[: end + len(_END_OF_HEAD)])
        total = len(head) + int(_field(head, b"content-length"))
        while len(data) < total:
            data += self._chunk(connection, end_ns)
        return head, bytes(data[len(head) :])

    def _chunk(self, connection: socket.socket, end_ns: int) -> bytes:
        left_ns = end_ns - self._clock_ns()
        if left_ns <= 0:
            raise TimeoutError("no response in time")
        connection.settimeout(left_ns / 1e9)
        chunk = connection.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        return chunk


def get(target: Target, path: str, timeout_seconds: float = 10.0) -> tuple[int, bytes]:
    """Status and body of a GET; 0 and nothing without a response."""
    request = f"GET {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n\r\n"
    found = Pool(target, timeout_seconds).exchange(request.encode("ascii"))
    return (_status(found.head), found.body) if found.head else (0, b"")


def reply_of(exchange: Exchange) -> Reply:
    """What an exchange says."""
    if not exchange.head:
        return Reply(0, problem=exchange.error, timed_out=exchange.timed_out)
    fields, body = _fields(exchange.head), _object(exchange.body)
    status = _status(exchange.head)
    if status != 200:
        return Reply(status, problem=str(body.get("type", "")))
    met, total = fields.get("x-latency-budget-met"), _TOTAL.search(fields.get("server-timing", ""))
    return Reply(
        status,
        answer=_best_answer(body),
        configuration=fields.get("x-length-config"),
        expected_f1=_number(fields.get("x-expected-f1")),
        said_met=None if met is None else met == "true",
        server_ms=float(total[1]) if total else None,
    )


def _best_answer(body: Mapping[str, object]) -> str | None:
    """Text of the first answer, empty if there is none; None for a body of another form."""
    answers = body.get("answers")
    if not isinstance(answers, list):
        return None
    first = answers[0] if answers else {"text": ""}
    text = first.get("text") if isinstance(first, dict) else None
    return text if isinstance(text, str) else None


def _object(body: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _status(head: bytes) -> int:
    parts = head.split(maxsplit=2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _fields(head: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _field(head: bytes, name: bytes) -> bytes:
    """The value of a header field, or nothing."""
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip()


def _readable(connection: socket.socket) -> bool:
    """Whether bytes, or the end of the connection, wait to be read: nobody asked for any."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
