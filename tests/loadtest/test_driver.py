from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from loadtest.client import Exchange
from loadtest.driver import Played, play_closed, play_open

MS = 1_000_000


class Threads:
    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments))
        self._threads[-1].start()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


class Virtual:
    """Lanes and clock of a world in which only `sleep` takes time, and nothing runs beside it."""

    def __init__(self, oversleep_ns: int = 0) -> None:
        self.now_ns = 5_000 * MS
        self._oversleep_ns = oversleep_ns

    def clock_ns(self) -> int:
        return self.now_ns

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9) + (self._oversleep_ns if seconds else 0)

    def join(self) -> None:
        pass


def instant(world: Virtual, took_ns: int = 0) -> Callable[[bytes], Exchange]:
    def exchange(content: bytes) -> Exchange:
        began_ns = world.now_ns
        world.now_ns += took_ns
        return Exchange(began_ns, world.now_ns, b"head", content)

    return exchange


def opened(world: Virtual, at_ns: list[int], took_ns: int = 0) -> list[Played]:
    played: list[Played] = []
    requests: Callable[[int], bytes] = lambda number: str(number).encode()  # noqa: E731 - a line of a test
    play_open(at_ns, requests, instant(world, took_ns), world, played.append, clock_ns=world.clock_ns)
    return played


def test_requests_are_sent_at_their_times() -> None:
    played = opened(Virtual(), [0, 10 * MS, 10 * MS, 35 * MS])
    assert [each.began_ns for each in played] == [0, 10 * MS, 10 * MS, 35 * MS]
    assert [each.exchange.body for each in played] == [b"0", b"1", b"2", b"3"]


def test_lag_is_seen_and_the_next_are_not_moved_by_it() -> None:
    played = opened(Virtual(oversleep_ns=3 * MS), [0, 10 * MS, 11 * MS, 50 * MS])
    assert [(each.began_ns - each.intended_ns) // MS for each in played] == [3, 3, 2, 3]


def test_latency_counts_from_the_intended_time() -> None:
    # Each takes 20 ms, and nothing runs beside it in this world: the second begins 15 ms late.
    played = opened(Virtual(), [0, 5 * MS], took_ns=20 * MS)
    assert [each.ended_ns - each.intended_ns for each in played] == [20 * MS, 35 * MS]


def test_an_open_loop_does_not_wait_for_answers() -> None:
    gate, entered, played = threading.Event(), threading.Semaphore(0), list[Played]()

    def exchange(content: bytes) -> Exchange:
        began_ns = time.monotonic_ns()
        entered.release()
        gate.wait(30)
        return Exchange(began_ns, time.monotonic_ns(), b"head", content)

    def play() -> None:
        play_open([0] * 8, lambda number: b"", exchange, Threads(), played.append)

    player = threading.Thread(target=play)
    player.start()
    for _ in range(8):  # all eight are in work although none has an answer
        assert entered.acquire(timeout=30)
    assert played == []
    gate.set()
    player.join()
    assert len(played) == 8


def test_a_closed_loop_has_so_many_in_flight_and_ends_in_time() -> None:
    world, played = Virtual(), list[Played]()
    play_closed(
        0.1,
        1,
        lambda number: str(number).encode(),
        instant(world, 30 * MS),
        world,
        played.append,
        clock_ns=world.clock_ns,
    )
    assert [each.intended_ns // MS for each in played] == [0, 30, 60, 90]
    assert [each.number for each in played] == [0, 1, 2, 3]
    assert all(each.began_ns == each.intended_ns for each in played)


def test_a_closed_loop_against_nobody_does_not_spin() -> None:
    world, played = Virtual(), list[Played]()

    def refused(content: bytes) -> Exchange:
        return Exchange(world.now_ns, world.now_ns, error="refused")

    play_closed(1.0, 1, lambda number: b"", refused, world, played.append, clock_ns=world.clock_ns)
    assert len(played) == 20
