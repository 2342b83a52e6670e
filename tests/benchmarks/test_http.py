"""What HTTP adds, by hand, and the opponent's answers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import http
from benchmarks.http import APP, ENGINE, LEEWAY, SESSION
from benchmarks.promise.client import parsed


def ms(*runs: list[int]) -> Any:
    return np.array(runs, dtype=np.int64) * 1_000_000


MEMORY = dict.fromkeys((LEEWAY, ENGINE, APP, SESSION), 100.04)


def test_what_http_adds_is_the_median_difference_of_each_questions_own_medians() -> None:
    times = {
        LEEWAY: ms([11, 22, 50], [11, 22, 50], [99, 22, 5]),
        ENGINE: ms([10, 20, 40], [10, 20, 40], [10, 20, 99]),
        APP: ms([9, 9, 9]),
        SESSION: ms([6, 5, 4]),
    }
    found = http.document(times, MEMORY, max_added_ms=2.0)
    assert found["added_ms"][LEEWAY]["p50"] == 2.0  # of 1, 2, 10
    assert found["added_ms"][APP]["p50"] == 4.0  # of 3, 4, 5
    assert [each["name"] for each in found["systems"]] == list(times)
    assert found["broken"] == []
    (breach,) = http.document(times, MEMORY, max_added_ms=1.9)["broken"]
    assert "adds 2.0 ms" in breach


def test_everyone_has_every_question_in_every_run_and_the_first_of_a_turn_does_not_count() -> None:
    calls: dict[str, int] = {LEEWAY: 0, ENGINE: 0}

    def answering(name: str) -> http.Answering:
        def answer(questions: Sequence[Any]) -> list[int]:
            calls[name] += 1
            times = [each.number for each in questions]
            return times if len(questions) < 4 else [999, *times[1:]]

        return answer

    questions: list[Any] = [SimpleNamespace(number=number) for number in range(3)]
    times = http.rounds({name: answering(name) for name in calls}, questions, runs=2, seed=0)
    assert calls == {LEEWAY: 3, ENGINE: 3}
    assert all(each.tolist() == [[0, 1, 2], [0, 1, 2]] for each in times.values())


def test_the_client_reads_every_stage() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=0.100, total;dur=2.500\r\nX-Length-Config: full\r\n\r\n"
    reply, _ = parsed(head, 0, 1)
    assert reply.stages_ms == {"queue": 0.1, "total": 2.5}
    assert reply.server_ms == 2.5


def test_the_minimal_app_takes_the_best_span_of_the_context() -> None:
    pytest.importorskip("onnxruntime")
    from benchmarks.minimal_app import best_span

    start = np.array([[9.0, 9.0, 0.0, 5.0, 1.0, 0.0, 9.0]])
    end = np.array([[9.0, 9.0, 7.0, 0.0, 3.0, 1.0, 9.0]])  # the end before the start does not count
    encoding = SimpleNamespace(
        ids=[1] * 7,
        attention_mask=[1] * 7,
        type_ids=[0] * 7,
        sequence_ids=[None, 0, 1, 1, 1, 1, None],
        offsets=[(0, 0), (0, 3), (0, 2), (3, 6), (7, 9), (10, 12), (0, 0)],
    )
    session: Any = SimpleNamespace(run=lambda *_: (start, end))
    found: Any = encoding
    assert best_span(session, found) == (8.0, 3, 9)
