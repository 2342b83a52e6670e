"""The engine ipex computes what the reference computes, and refuses what it cannot run.

Where IPEX is not installed, torch alone runs its stages: the same quantized arithmetic, in float products.  What IPEX
makes of them is shown by tests/integration/test_ipex.py, which runs this file in an environment that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch

from model_store import LengthConfiguration, ModelStore
from server.engine import create_engine, installed_engines, ipex
from server.engine.interface import Engine, EngineUnavailableError
from server.engine.ipex import IpexEngine, _most_significant
from tests.model_store.tiny_artifact import TINY
from tests.trainer.models import DROPPING, EDGES, EXEMPTING, FULL, answer, window
from tests.trainer.test_parity import assert_alike

pytestmark = pytest.mark.usefixtures("one_torch_thread")

INSTALLED = "ipex" in installed_engines()


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    if not INSTALLED:
        monkeypatch.setattr(ipex, "_load_extension", lambda: None)
        monkeypatch.setattr(ipex, "multiplies_int8_exactly", lambda: True)


def engine_of(store: Path, model: str = "int8") -> IpexEngine:
    return IpexEngine(ModelStore(store).load(model), threads=1)


@pytest.mark.parametrize("model", ["int8", "smooth", "question", "learned", "bilinear"])
@pytest.mark.parametrize("configuration", [FULL, DROPPING, EXEMPTING], ids=lambda one: str(one.id))
def test_ipex_computes_what_the_reference_computes(
    engines: Callable[[str, str], Engine], model: str, configuration: LengthConfiguration
) -> None:
    for length in EDGES:
        tokens = window(length)
        expected = answer(engines("reference", model), tokens, configuration)
        assert_alike(answer(engines("ipex", model), tokens, configuration), expected, configuration)


def test_padding_never_changes_the_answer(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(store)
    for configuration in (FULL, DROPPING):
        padded = answer(engine, window(33), configuration)
        monkeypatch.setattr(engine, "_pad_id", 9)
        assert (answer(engine, window(33), configuration) == padded).all()
        monkeypatch.setattr(ipex, "ROW_STEP", 1)
        assert_alike(answer(engine, window(33), configuration), padded, configuration)
        monkeypatch.undo()


def test_between_equals_the_earlier_token_stays_and_reading_order_is_kept() -> None:
    scores = np.array([1, 3, 2, 3, 2, 2, 0], dtype=np.float32)
    assert _most_significant(scores, 2).tolist() == [1, 3]
    assert _most_significant(scores, 3).tolist() == [1, 2, 3]
    assert _most_significant(np.zeros(500, dtype=np.float32), 8).tolist() == list(range(8))


def test_after_warming_up_no_text_needs_a_new_trace(store: Path) -> None:
    engine = engine_of(store, "tiny")
    configurations = [point.configuration for point in ModelStore(store).load("tiny").table.points]
    engine.warm_up(configurations)
    traced = set(engine._graphs)
    for configuration in configurations:
        for length in range(2, 49):  # max_length is 48
            answer(engine, window(length, vocabulary=TINY.vocabulary), configuration)
    assert set(engine._graphs) == traced


def test_the_least_recently_used_traces_go_and_come_back_the_same(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipex, "MOST_GRAPHS", 5)
    engine = engine_of(store)
    first = answer(engine, window(20), DROPPING)
    for length in (33, 49, 80):
        answer(engine, window(length), DROPPING)
        assert len(engine._graphs) <= 5
    assert (answer(engine, window(20), DROPPING) == first).all()


def test_a_closed_engine_says_so(store: Path) -> None:
    engine = engine_of(store)
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        answer(engine, window(20))


def test_the_float_twin_is_refused(store: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"scheme is 'none' \(the engine reference runs it\)"):
        create_engine("ipex", ModelStore(store).load("float"), threads=1)


def test_a_processor_without_exact_products_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipex, "multiplies_int8_exactly", lambda: False)
    with pytest.raises(EngineUnavailableError, match=r"AVX512-VNNI.*openvino runs here"):
        engine_of(store)


def test_a_missing_extension_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.undo()
    monkeypatch.setattr(ipex, "version", missing)
    with pytest.raises(EngineUnavailableError, match=r"'intel-extension-for-pytorch'.*pip install 'leeway-qa\[ipex\]'"):
        ipex._load_extension()


def test_another_torch_is_refused_before_the_extension_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ipex, "version", lambda _: "2.8.0")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    with pytest.raises(EngineUnavailableError, match=r"needs torch 2\.8, .*this Python has torch 2\.13\.0\+cpu"):
        ipex._load_extension()
