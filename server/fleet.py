"""The slow loop: asks Prometheus how far the fleet is off its profiles, and trims this process's profile by it.

The loop is a convenience: with Prometheus down, slow or talking nonsense, the trim stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Literal, Protocol, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

from server.routing.trim import Trim

logger = logging.getLogger("leeway")

T = TypeVar("T")
PollResult = Literal["read", "no_data", "failed"]
"""``read``: a sound reading, which moved the trim; ``no_data``: none, or too few samples; ``failed``: no answer."""

MAX_ANSWER_BYTES = 65_536  # one value takes about 150


class FleetError(Exception):
    """Prometheus could not be asked, or its answer makes no sense; the message says which and why."""


@dataclass(frozen=True, slots=True)
class FleetReading:
    """What the fleet observed.

    Attributes:
        median: of observed / untrimmed profile time; None if nothing was observed.
        samples: observations behind it.
    """

    median: float | None
    samples: float


class FleetSource(Protocol):
    """Where readings come from."""

    def read(self) -> FleetReading:
        """A reading of now; may block.

        Raises:
            FleetError: there is none.
        """


class Prometheus:
    """Instant queries to one Prometheus server: no proxy, no redirect, small answers, bounded time."""

    def __init__(self, url: str, query: str, count_query: str, *, timeout_s: float = 5.0) -> None:
        """Nothing is asked yet.

        Args:
            url: ``http`` or ``https``, with a path if Prometheus is served below one.
            query: gives the median, one value.
            count_query: gives the number of observations behind it, one value.
            timeout_s: for each step of a query (connecting, each read) and for its whole body.

        Raises:
            ValueError: not such a URL.
        """
        self._url = checked_url(url)
        self._query = query
        self._count_query = count_query
        self._timeout_s = timeout_s

    def read(self) -> FleetReading:
        """Both queries, one after the other."""
        return FleetReading(self._ask(self._query), self._ask(self._count_query) or 0.0)

    def _ask(self, query: str) -> float | None:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        path = f"{self._url.path.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = self._body(response)
        except (OSError, HTTPException, UnicodeError) as error:  # the last one: a host name that cannot be looked up
            raise FleetError(f"no answer: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise FleetError(f"status {response.status}: {body[:200].decode(errors='replace')}")
        return value_of(body)

    def _body(self, response: HTTPResponse) -> bytes:
        """The body, unless it is too long or comes too slowly."""
        end = time.monotonic() + self._timeout_s
        body = b""
        while chunk := response.read1(MAX_ANSWER_BYTES):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise FleetError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > end:
                raise FleetError(f"the answer took longer than {self._timeout_s:g} s")
        return body


def checked_url(url: str) -> SplitResult:
    """Address of a Prometheus server.

    Raises:
        ValueError: not http or https, no host, an impossible port, or more than host, port and path.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is no http or https URL with a host")
    if (
        parts.username is not None
        or parts.query
        or parts.fragment
        or not url.isascii()
        or " " in url
        or not url.isprintable()
    ):
        raise ValueError(f"{url!r} must be ASCII, and a host with a port and a path at most")
    return parts


def value_of(body: bytes) -> float | None:
    """The one value of an answer to an instant query; None for none, and for NaN and infinities.

    Raises:
        FleetError: not the JSON of a successful answer, or more than one value.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"the answer is no JSON: {error}") from error
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or answer.get("status") != "success" or data.get("resultType") != "vector":
        raise FleetError("the answer is no successful instant vector")
    match data.get("result"):
        case []:
            return None
        case [{"value": [_, str(text)]}]:
            pass
        case _:
            raise FleetError("the query must give one value; aggregate over all labels")
    try:
        value = float(text)
    except ValueError as error:
        raise FleetError(f"the value {text[:40]!r} is no number") from error
    return value if math.isfinite(value) else None


class FleetLoop:
    """Polls a source and trims by it, in the background of a running event loop.

    Attributes:
        trim: moved by the readings.
        failing: whether the last poll failed.
    """

    def __init__(  # noqa: PLR0913 - parts, callbacks and a period, each by name
        self,
        source: FleetSource,
        on_trim: Callable[[float], None],
        *,
        on_poll: Callable[[PollResult], None] = lambda _result: None,
        trim: Trim | None = None,
        seconds: float = 30.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            source: read in a thread of its own.
            on_trim: called on the event loop with the trim after each sound reading.
            on_poll: called on the event loop after each poll, sound or not.
            trim: what to move; a fresh one if not given.
            seconds: between two polls.
            clock_ns: monotonic.
            sleep: waits between polls.
        """
        self.trim = trim if trim is not None else Trim()
        self.failing = False
        self._source = source
        self._on_trim = on_trim
        self._on_poll = on_poll
        self._seconds = seconds
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Poll at once, and then again and again; nothing happens if it runs already."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="leeway-fleet")

    async def stop(self) -> None:
        """Stop; a query on its way is left behind and its answer ignored."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def poll(self) -> PollResult:
        """Ask once, trim, and tell the callbacks."""
        result = await self._read()
        self._on_poll(result)
        return result

    async def _run(self) -> None:
        while True:
            try:
                await self.poll()
            except Exception:  # a defect here must not end the loop, and no request must suffer from it
                logger.exception("asking Prometheus failed unexpectedly")
            await self._sleep(self._seconds)

    async def _read(self) -> PollResult:
        try:
            reading = await _in_thread(self._source.read)
        except FleetError as error:
            if not self.failing:
                logger.warning("Prometheus: %s; the profile's trim stays at %.3f", error, self.trim.value)
            self.failing = True
            return "failed"
        if self.failing:
            logger.warning("Prometheus answers again")
        self.failing = False
        if not self.trim.believes(reading.median, reading.samples):
            return "no_data"
        self._on_trim(self.trim.update(reading.median, reading.samples, self._clock_ns()))
        return "read"


async def _in_thread(call: Callable[[], T]) -> T:
    """What `call` returns or raises; it runs in a daemon thread, which a process that ends need not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():  # cancelled meanwhile
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type] # without an error there is a result

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001 - handed to whoever awaits
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="leeway-fleet", daemon=True).start()
    return await done
