"""Around every request: id, limits while the body streams, one log line, and the last net for failures."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.headers import request_id, traceparent
from server.api.problems import ProblemError, internal_error, problem_response
from server.metrics import Metrics

logger = logging.getLogger("leeway.access")

_DISCARD_BYTES = 32 * 1024 * 1024
_DISCARD_SECONDS = 5.0
_QUIET = ("/health/", "/metrics")


class Guard:
    """Pure ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(scope, receive, send, self._max_body_bytes, self._metrics).serve(self._app)


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int, metrics: Metrics) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._headers = Headers(scope=scope)
        self._id = request_id(self._headers)
        self._body_bytes = 0
        self._body_complete = False
        self._status: int | None = None

    async def serve(self, app: ASGIApp) -> None:
        """Run `app` for this request; whatever it raises becomes problem details."""
        start_ns = time.monotonic_ns()
        self._scope.setdefault("state", {})["request_id"] = self._id
        try:
            self._check_headers()
            await app(self._scope, self._counting_receive, self._tagging_send)
        except ProblemError as problem:
            await self._refuse(problem)
        except ClientDisconnect:
            pass  # gone before the body was complete: nobody to answer
        except Exception:
            logger.exception("request %s failed", self._id)
            await self._respond(internal_error())
        finally:  # the log may wait until the response is written, which is at the end of the loop's present turn
            asyncio.get_running_loop().call_soon(self._log, time.monotonic_ns() - start_ns)

    def _check_headers(self) -> None:
        if self._headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise ProblemError(
                415, "unsupported-content-encoding", "bodies are taken as they are: send no Content-Encoding"
            )
        declared = self._headers.get("Content-Length")
        if declared is not None and declared.isascii() and declared.isdigit() and len(declared) < 20:
            if int(declared) > self._max_body_bytes:
                raise self._too_large()
        elif declared is not None:
            raise ProblemError(400, "malformed-header", "Content-Length is no number of bytes")

    def _too_large(self) -> ProblemError:
        return ProblemError(413, "body-too-large", f"the body may have at most {self._max_body_bytes} bytes")

    async def _counting_receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            self._body_complete = not message.get("more_body", False)
            if self._body_bytes > self._max_body_bytes:
                raise self._too_large()
        return message

    async def _tagging_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.append("X-Request-ID", self._id)
            trace = traceparent(self._headers)
            if trace is not None:
                headers.append("traceparent", trace)
        await self._send(message)

    async def _refuse(self, problem: ProblemError) -> None:
        if problem.status in (413, 415) and not self._body_complete:
            await self._discard_body()
            problem = ProblemError(
                problem.status, problem.kind, problem.detail, problem.errors, {**problem.headers, "Connection": "close"}
            )
        await self._respond(problem)

    async def _discard_body(self) -> None:
        """Read on for a while without keeping anything: a client that is still sending may not see an answer."""
        if "100-continue" in self._headers.get("Expect", "").lower():
            return  # it waits for our word before it sends
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while self._body_bytes < _DISCARD_BYTES:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    self._body_bytes += len(message.get("body", b""))
        except TimeoutError:
            return

    async def _respond(self, problem: ProblemError) -> None:
        if self._status is not None:
            return  # the response has begun; the connection is cut by the server below us
        self._metrics_invalid(problem.status)
        await problem_response(problem, self._id)(self._scope, self._receive, self._tagging_send)

    def _metrics_invalid(self, status: int) -> None:
        if 400 <= status < 500:
            self._metrics.invalid.labels(str(status)).inc()

    def _log(self, elapsed_ns: int) -> None:
        path = self._scope["path"]
        level = logging.DEBUG if path.startswith(_QUIET) else logging.INFO
        if not logger.isEnabledFor(level):
            return
        record = logger.makeRecord(  # what `logger.log` does, but for looking through the stack for its caller
            logger.name,
            level,
            __file__,
            0,
            "%s %s %s %.1f ms",
            (
                self._scope["method"],
                path.encode("unicode_escape").decode()[:200],
                self._status if self._status is not None else "-",
                elapsed_ns / 1e6,
            ),
            None,
            extra={"request_id": self._id, "status": self._status, "path": path[:200]},
        )
        logger.handle(record)
