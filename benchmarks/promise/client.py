"""A client that costs little: bytes made once, a kept-alive connection, the clock stopped before anything is parsed."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message

from benchmarks.server_process import HOST, BenchmarkError
from benchmarks.workload import Asked

_CHUNK = 65_536
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_STAGE = re.compile(r"([a-z_]+);dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """One response, as the client saw it.

    Attributes:
        status: 0 if the connection broke.
        sent_ns: before the first byte was sent, monotonic.
        received_ns: when the last byte of the response had come, monotonic.
        configuration: id of the length configuration that answered; None unless the status is 200, as all below.
        expected_f1: held-out F1 of that configuration, percent.
        predicted_ms: arrival to answer, upper quantile, as the server predicted it at dispatch.
        server_ms: arrival to answer, as the server measured it.
        stages_ms: of every stage that the server names (``Server-Timing``), by name.
    """

    status: int
    sent_ns: int
    received_ns: int
    configuration: str | None = None
    expected_f1: float | None = None
    predicted_ms: float | None = None
    server_ms: float | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """From the first byte sent to the last byte received."""
        return (self.received_ns - self.sent_ns) / 1e6


def prepared(asked: Asked, headers: Mapping[str, str] | None = None) -> bytes:
    """All bytes of a ``POST /qa``."""
    body = json.dumps({"question": asked.question, "context": asked.context}).encode()
    fields = {"Host": HOST, "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /qa HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


class FastClient:
    """One connection to a server on the loopback address, opened when first used and again after it broke."""

    def __init__(self, port: int, timeout_seconds: float = 60.0) -> None:
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Reply:
        """Send `request`, which `prepared` made, and wait for the response.

        Raises:
            BenchmarkError: the response does not say how long it is.
        """
        connection = self._connected()
        sent_ns = time.monotonic_ns()
        try:
            if connection is None:
                return Reply(0, sent_ns, sent_ns)
            connection.sendall(request)
            head = _received(connection)
        except OSError:
            self.close()
            return Reply(0, sent_ns, time.monotonic_ns())
        received_ns = time.monotonic_ns()
        reply, is_last = parsed(head, sent_ns, received_ns)
        if is_last:
            self.close()
        return reply

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket | None:
        if self._socket is None:
            try:
                self._socket = socket.create_connection((HOST, self._port), self._timeout_seconds)
            except OSError:
                return None
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


def parsed(head: bytes, sent_ns: int, received_ns: int) -> tuple[Reply, bool]:
    """What the head of a response says, and whether the connection ends with it."""
    first, _, rest = head.partition(b"\r\n")
    status = int(first.split()[1])
    fields = http.client.parse_headers(io.BytesIO(rest))
    is_last = fields.get("Connection", "").lower() == "close"
    if status != 200:
        return Reply(status, sent_ns, received_ns), is_last
    stages = {name: float(value) for name, value in _STAGE.findall(fields.get("Server-Timing", ""))}
    reply = Reply(
        status,
        sent_ns,
        received_ns,
        configuration=fields["X-Length-Config"],
        expected_f1=_number(fields, "X-Expected-F1"),
        predicted_ms=_number(fields, "X-Predicted-Latency-ms"),
        server_ms=stages.get("total"),
        stages_ms=stages,
    )
    return reply, is_last


def _number(fields: Message, name: str) -> float | None:
    value = fields[name]
    return None if value is None else float(value)


def _received(connection: socket.socket) -> bytes:
    """Read one whole response; its head."""
    data = bytearray()
    while (end := data.find(_END_OF_HEAD)) < 0:
        data += _chunk(connection)
    head = bytes(data[: end + len(_END_OF_HEAD)])
    length = _LENGTH.search(head)
    if length is None:
        raise BenchmarkError("the response does not say how long it is")
    left = len(head) + int(length[1]) - len(data)
    while left > 0:
        left -= len(_chunk(connection))
    return head


def _chunk(connection: socket.socket) -> bytes:
    chunk = connection.recv(_CHUNK)
    if not chunk:
        raise ConnectionResetError("the server closed the connection")
    return chunk
