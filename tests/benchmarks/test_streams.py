"""Arrangements of streams and threads: who answers what, by hand."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from benchmarks.streams import arrangements, in_flight, rounds
from model_store import full_configuration

QUESTIONS: list[Any] = [SimpleNamespace(windows=[number]) for number in range(12)]
CONFIGURATION = full_configuration(6)


class Sleeper:
    """Takes a fixed time for each question, and says which it had."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.had: list[int] = []
        self.busy = threading.Lock()

    def run(self, windows: list[int], _configuration: object) -> None:
        assert self.busy.acquire(blocking=False), "one call at a time is what a stream is"
        time.sleep(self.seconds)
        self.had.extend(windows)
        self.busy.release()


def test_the_cores_are_divided_in_every_even_way() -> None:
    assert [each.name for each in arrangements(1)] == ["1x1"]
    assert [each.name for each in arrangements(2)] == ["1x2", "2x1"]
    assert [each.name for each in arrangements(6)] == ["1x6", "2x3", "3x2", "6x1"]


def test_every_question_is_answered_once_by_whoever_is_free() -> None:
    slow, fast = Sleeper(0.02), Sleeper(0.001)
    engines: Any = [slow, fast]
    wall, times = in_flight(engines, QUESTIONS, CONFIGURATION)
    assert sorted(slow.had + fast.had) == list(range(12))
    assert len(fast.had) > len(slow.had) > 0
    assert min(times) >= 1_000_000
    assert wall >= max(times)


def test_two_streams_of_equal_speed_have_twice_the_throughput_and_the_same_latency() -> None:
    who: Any = {"1x2": [Sleeper(0.005)], "2x1": [Sleeper(0.005), Sleeper(0.005)]}
    found = rounds(who, QUESTIONS, CONFIGURATION, runs=2, seed=0, chunk=6)
    assert found["1x2"]["throughput_gain"]["value"] == 1.0
    assert 1.5 < found["2x1"]["throughput_gain"]["value"] < 2.5
    assert 0.7 < found["2x1"]["latency_gain"]["value"] < 1.4
    ratio = found["2x1"]["saturated"]["questions_per_second"] / found["1x2"]["saturated"]["questions_per_second"]
    assert 1.5 < ratio < 2.5
