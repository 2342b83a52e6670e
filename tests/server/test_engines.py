"""Engines by name, and the fake one."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from model_store import Artifact, ModelStore
from model_store.length_config import full_configuration
from reading.tokens import SpecialTokens, TokenizedText
from reading.windows import Window, WindowSettings, make_windows
from server.engine import create_engine
from server.engine.fake import FakeEngine
from server.engine.interface import EngineUnavailableError
from tests.model_store.tiny_artifact import publish_tiny
from tests.server.fixtures import tiny_architecture

FULL = full_configuration(2)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    root: Path = tmp_path_factory.mktemp("store")
    publish_tiny(root)
    return ModelStore(root).load("tiny")


def windows(ids: list[int], settings: WindowSettings | None = None) -> list[Window]:
    """Windows of a context of these ids behind a question of the ids 5 and 6."""

    def tokens(values: list[int]) -> TokenizedText:
        places = np.arange(len(values), dtype=np.int32)
        return TokenizedText(np.array(values, dtype=np.int32), places, places + 1)

    return make_windows(tokens([5, 6]), tokens(ids), SpecialTokens(2, 3, 0), settings or WindowSettings())


def test_an_unknown_engine_is_refused_with_those_that_there_are(artifact: Artifact) -> None:
    with pytest.raises(EngineUnavailableError, match="native, openvino, ipex, reference, fake"):
        create_engine("tensorrt", artifact)


def test_an_unknown_precision_is_refused(artifact: Artifact) -> None:
    with pytest.raises(EngineUnavailableError, match="auto, f32, bf16"):
        create_engine("fake", artifact, precision="int4")


@pytest.mark.parametrize("name", ["ipex", "reference", "fake"])
def test_a_precision_that_an_engine_has_not_is_refused(artifact: Artifact, name: str) -> None:
    with pytest.raises(EngineUnavailableError, match="f32 only"):
        create_engine(name, artifact, precision="bf16")


def test_a_missing_runtime_is_named_with_the_way_to_install_it(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EngineUnavailableError, match=r"'torch'.*pip install 'leeway-qa\[train\]'"):
        create_engine("reference", artifact)


def test_threads_are_taken_as_told(artifact: Artifact) -> None:
    assert create_engine("fake", artifact, threads=3).info.threads == 3
    assert create_engine("fake", artifact).info.threads >= 1


def test_the_fake_has_one_logit_per_token_and_keeps_to_the_context() -> None:
    engine = FakeEngine(tiny_architecture(100))
    cut = windows(list(range(10, 60)), WindowSettings(max_length=32, overlap=8, max_question=8))
    result = engine.run(cut, FULL)
    assert len(cut) > 1
    for window, logits in zip(cut, result.logits, strict=True):
        assert logits.start.shape == logits.end.shape == (len(window),)
        inside = slice(window.segment_start, window.segment_start + window.context_count)
        assert logits.start.dtype == np.float32
        assert logits.start[inside].min() >= 0 > np.delete(logits.start, np.r_[inside]).max()


def test_the_fake_is_deterministic() -> None:
    cut = windows([7, 8, 9, 10])
    first, second = (FakeEngine(tiny_architecture(100)).run(cut, FULL).logits[0] for _ in range(2))
    assert (first.start == second.start).all()
    assert (first.end == second.end).all()
    assert len(set(first.start.tolist())) > 3


def test_the_fake_takes_its_service_time_from_the_sleep_that_it_is_given() -> None:
    slept: list[float] = []
    engine = FakeEngine(tiny_architecture(100), service_ns=2_000_000, sleep=slept.append, clock_ns=lambda: 0)
    engine.run(windows([7]) * 3, FULL)
    assert slept == [0.006]


@pytest.mark.parametrize(
    ("cut", "layers"),
    [([], 2), (windows([7]), 3), (windows([100]), 2), (windows([-1]), 2), (windows([7] * 300), 2)],
)
def test_the_fake_refuses_what_every_engine_refuses(cut: list[Window], layers: int) -> None:
    with pytest.raises(ValueError, match=r"window|layers|vocabulary|positions"):
        FakeEngine(tiny_architecture(100)).run(cut, full_configuration(layers))
