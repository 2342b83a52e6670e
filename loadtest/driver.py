"""Play requests at their times.  Knows no gevent: what spawns and sleeps comes in, so that threads can play, too."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from loadtest.client import Exchange

_AFTER_FAILURE_SECONDS = 0.05


class Lanes(Protocol):
    """Something that runs functions side by side."""

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run `function` in a lane of its own."""

    def sleep(self, seconds: float) -> None:
        """Let the other lanes run for `seconds`."""

    def join(self) -> None:
        """Wait until all lanes are done."""


@dataclass(frozen=True, slots=True)
class Played:
    """One request that was made.

    Attributes:
        number: its place in what was to be played.
        intended_ns: when it was to be sent, since the beginning of the run.
        began_ns: when it was, since then.
        ended_ns: when its response was there, since then.
        exchange: what came back.
    """

    number: int
    intended_ns: int
    began_ns: int
    ended_ns: int
    exchange: Exchange


Done = Callable[[Played], None]


def play_open(  # noqa: PLR0913 - the run, then what it runs on
    at_ns: Sequence[int],
    request: Callable[[int], bytes],
    exchange: Callable[[bytes], Exchange],
    lanes: Lanes,
    done: Done,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Start every request at its time, each in a lane of its own, whatever became of those before; wait for all.

    Args:
        at_ns: intended times since the beginning, ascending.
        request: bytes of a request by its number; made while there is time, before the request is due.
        exchange: sends one and waits for its response.
        lanes: what the requests run in.
        done: told of each as soon as its response is there.
        clock_ns: monotonic; the one that `exchange` uses.
    """
    with _no_old_garbage():
        zero_ns = clock_ns() + 20_000_000  # time to make the first ones

        def one(number: int, intended_ns: int, content: bytes) -> None:
            found = exchange(content)
            done(Played(number, intended_ns, found.began_ns - zero_ns, found.ended_ns - zero_ns, found))

        for number, intended_ns in enumerate(at_ns):
            content = request(number)
            lanes.sleep(max(0.0, (zero_ns + intended_ns - clock_ns()) / 1e9))
            lanes.spawn(one, number, intended_ns, content)
        lanes.join()


def play_closed(  # noqa: PLR0913, PLR0917 - the run, then what it runs on
    seconds: float,
    clients: int,
    request: Callable[[int], bytes],
    exchange: Callable[[bytes], Exchange],
    lanes: Lanes,
    done: Done,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Let `clients` ask one request after the other; those begun within `seconds` are waited for.

    A request is intended for the moment at which its client is free, so there is no lag in here.
    """
    zero_ns = clock_ns()
    numbers = itertools.count()

    def client() -> None:
        while clock_ns() - zero_ns < seconds * 1e9:
            number = next(numbers)
            content = request(number)
            intended_ns = clock_ns() - zero_ns
            found = exchange(content)
            done(Played(number, intended_ns, intended_ns, found.ended_ns - zero_ns, found))
            lanes.sleep(0.0 if found.head else _AFTER_FAILURE_SECONDS)

    for _ in range(clients):
        lanes.spawn(client)
    lanes.join()


@contextmanager
def _no_old_garbage() -> Iterator[None]:
    """While requests are timed, the garbage collector looks at nothing that was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
