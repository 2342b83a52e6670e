"""A worker's process with a fake model: what it answers, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.crew import UnavailableError, Worker, WorkerSpec, own_cores
from benchmarks.peers.pieces import Piece
from benchmarks.peers.systems import Entry, System, crew, entries
from benchmarks.server_process import BenchmarkError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pins processes to cores")

QUESTIONS = [
    [Piece(np.array([1, 2, 3, 0], dtype=np.int32), 1, 3)],
    [Piece(np.array([4, 5], dtype=np.int32), 1, 2), Piece(np.array([6], dtype=np.int32), 1, 1)],
]


def entry(name: str, **settings: str) -> Entry:
    return Entry(WorkerSpec(name, {"runner": "fake", **settings}), (System(name, "a fake", name),))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(WorkerSpec("fake", {"runner": "fake"}), own_cores()[:1]) as started:
        yield started


def test_a_worker_answers_every_question_with_a_time_and_the_logits_of_its_windows(worker: Worker) -> None:
    found = worker.run("full", QUESTIONS, logits=True)
    assert found.times_ns.shape == (2,)
    assert (found.times_ns > 0).all()
    assert [[logits.start.tolist() for logits in question] for question in found.logits] == [
        [[1.0, 2.0, 3.0]],
        [[4.0, 5.0], [6.0]],
    ]
    assert found.logits[0][0].end.tolist() == [-1.0, -2.0, -3.0]


def test_logits_stay_at_home_unless_asked_for(worker: Worker) -> None:
    assert worker.run("full", QUESTIONS).logits == []


def test_a_worker_says_what_it_is_after_its_warm_up(worker: Worker) -> None:
    worker.warm_up("c01")
    assert worker.facts == {"warmed_up": ["c01"]}


def test_a_request_that_fails_is_an_error_here_and_the_worker_lives_on(worker: Worker) -> None:
    with pytest.raises(BenchmarkError, match="fake: ValueError: told to fail"):
        worker.run("broken", QUESTIONS)
    assert len(worker.run("full", QUESTIONS).times_ns) == 2
    assert worker.memory_mb() > 1


def test_what_is_not_there_is_left_out_with_its_reason(tmp_path: Path) -> None:
    wanted = [entry("here"), entry("gone", unavailable="no such engine")]
    with crew(wanted, tmp_path, "default", own_cores()[:1]) as present:
        assert list(present.systems) == ["here"]
        assert present.left_out == {"gone": "no such engine"}


def test_an_interpreter_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot start"):
        Worker(WorkerSpec("fake", {"runner": "fake"}, tmp_path / "python"), own_cores()[:1])


def test_a_worker_that_falls_over_says_its_last_words() -> None:
    with pytest.raises(BenchmarkError, match="no runner 'unheard of'"):
        Worker(WorkerSpec("fake", {"runner": "unheard of"}), own_cores()[:1])


def test_everyone_has_a_name_of_their_own_and_random_weights_are_said_to_be(tmp_path: Path) -> None:
    everyone = [system for each in entries(tmp_path, "default@1", ["c01", "full"], None) for system in each.systems]
    assert len({system.name for system in everyone}) == len(everyone)
    assert {system.name for system in everyone if not system.has_weights} == {
        "bert_fp32",
        "bert_int8",
        "distilbert_fp32",
        "int8_peak",
    }
    assert {"native/full", "openvino/full", "openvino/c01", "ipex/full", "static", "ort_int8", "minilm_fp32"} <= {
        system.name for system in everyone
    }
