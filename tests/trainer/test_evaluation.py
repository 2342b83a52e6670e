"""Questions answered by several engines side by side."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model_store import Artifact, LengthConfiguration, ModelStore, full_configuration
from reading import SquadRecord
from server.engine.fake import FakeEngine
from server.engine.interface import EngineResult, EngineUnavailableError, WindowTokens
from tests.model_store.tiny_artifact import TINY, publish_tiny
from tests.trainer.helpers import excerpt
from trainer import evaluation
from trainer.evaluation import cut_questions, engines_running, evaluate_questions

FULL = full_configuration(TINY.layers)
QUESTIONS: list[SquadRecord] = list(excerpt())[:12]


class OneAtATime(FakeEngine):
    """Waits at its first call until all of `together` do, and refuses a second call inside one."""

    def __init__(self, together: threading.Barrier) -> None:
        super().__init__(TINY)
        self._together = together
        self._inside = threading.Lock()

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        assert self._inside.acquire(blocking=False)
        try:
            if not self.calls:
                self._together.wait(10)
            return super().run(windows, configuration)
        finally:
            self._inside.release()


class Failing(FakeEngine):
    """Fails."""

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        raise RuntimeError("out of luck")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    publish_tiny(tmp_path)
    return ModelStore(tmp_path).load("tiny")


def test_engines_side_by_side_give_the_scores_of_one_in_the_questions_order(artifact: Artifact) -> None:
    one = evaluate_questions(artifact, [FakeEngine(TINY)], FULL, QUESTIONS, progress=False)
    together = threading.Barrier(3)
    engines = [OneAtATime(together) for _ in range(3)]
    found = evaluate_questions(artifact, engines, FULL, QUESTIONS, progress=False)
    np.testing.assert_array_equal(found.f1, one.f1)
    np.testing.assert_array_equal(found.exact_match, one.exact_match)
    assert all(engine.calls for engine in engines)
    assert sum(engine.calls for engine in engines) == len(QUESTIONS)


def test_what_an_engine_fails_at_is_said_and_no_engine_is_no_answer(artifact: Artifact) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate_questions(artifact, [FakeEngine(TINY), Failing(TINY)], FULL, QUESTIONS, progress=False)
    with pytest.raises(ValueError, match="no engine"):
        evaluate_questions(artifact, [], FULL, QUESTIONS, progress=False)


def test_questions_are_cut_in_their_order(artifact: Artifact) -> None:
    assert [each.record for each in cut_questions(artifact, QUESTIONS)] == QUESTIONS


def test_there_are_as_many_engines_as_threads(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "available_threads", lambda: 3)
    with engines_running(artifact, "fake", 0) as engines:
        assert [engine.info.threads for engine in engines] == [1, 1, 1]
    with engines_running(artifact, "fake", 2) as engines:
        assert len(engines) == 2
    with pytest.raises(ValueError, match="at least 0"), engines_running(artifact, "fake", -1):
        pass
    with pytest.raises(EngineUnavailableError), engines_running(artifact, "abacus", 1):
        pass


def test_no_engine_is_left_open(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeEngine] = []

    def create(_name: str, _artifact: Artifact, *, threads: int) -> FakeEngine:
        if len(made) == 2:
            raise RuntimeError("no memory for a third")
        made.append(FakeEngine(TINY, threads=threads))
        return made[-1]

    monkeypatch.setattr(evaluation, "create_engine", create)
    with pytest.raises(ZeroDivisionError), engines_running(artifact, "fake", 2):
        raise ZeroDivisionError
    assert [engine.closed for engine in made] == [True, True]
    made.pop()
    with pytest.raises(RuntimeError, match="a third"), engines_running(artifact, "fake", 2):
        pass
    assert [engine.closed for engine in made] == [True, True]
