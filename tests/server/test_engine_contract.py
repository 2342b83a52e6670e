"""What every engine promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino as ov
import pytest

from model_store import LengthConfiguration, ModelStore, full_configuration
from server.engine import create_engine, installed_engines, native
from server.engine.interface import Engine, EngineUnavailableError
from server.engine.native import obstacle
from server.engine.processor import multiplies_int8_exactly
from tests.model_store.tiny_artifact import TINY
from tests.trainer.models import DROPPING, EDGES, EXEMPTING, FULL, SHAPE, Tokens, answer, fresh, stacked, window

pytestmark = pytest.mark.usefixtures("one_torch_thread")

NAMES = ("native", "openvino", "ipex", "reference", "fake")
NATIVE_PRECISION = "int8+f32" if native._level() == "avx512" else "int8 in int16+f32"
OPENVINO_PRECISION = "int8+f32" if multiplies_int8_exactly() else "int8 in f32"


Engines = Callable[..., Engine]
missing = {
    "ipex": pytest.mark.skipif("ipex" not in installed_engines(), reason="IPEX is not installed (extra ipex)"),
    "native": pytest.mark.skipif(bool(obstacle()), reason=f"native: {obstacle()}"),
}
each = pytest.mark.parametrize("name", [pytest.param(name, marks=missing.get(name, ())) for name in NAMES])


@each
def test_info_says_which_engine_runs_and_on_how_many_threads(engines: Engines, name: str) -> None:
    info = engines(name).info
    assert (info.name, info.threads) == (name, 1)
    assert info.device
    assert info.precision
    if name == "ipex":
        assert info.precision == "int8+f32"
    if name == "native":
        assert info.precision == NATIVE_PRECISION
    if name == "openvino":
        assert info.precision == OPENVINO_PRECISION


@each
@pytest.mark.parametrize("configuration", [FULL, DROPPING, EXEMPTING], ids=lambda one: str(one.id))
def test_there_is_one_finite_logit_for_each_real_token(
    engines: Engines, name: str, configuration: LengthConfiguration
) -> None:
    result = engines(name).run([window(length) for length in EDGES], configuration)
    assert result.inference_ns >= 0
    for length, logits in zip(EDGES, result.logits, strict=True):
        assert logits.start.shape == logits.end.shape == (length,)
        assert logits.start.dtype == logits.end.dtype == np.float32
        assert np.isfinite(stacked(logits)).all()


def outside(token_id: int) -> Tokens:
    ids = window(20).token_ids.copy()
    ids[11] = token_id
    return Tokens(ids, 4)


REFUSED: dict[str, tuple[list[Tokens], LengthConfiguration]] = {
    "no window": ([], FULL),
    "an empty window": ([window(10), Tokens(np.zeros(0, dtype=np.int32), 0)], FULL),
    "too long": ([window(10), window(SHAPE.positions + 1)], FULL),
    "id beyond the vocabulary": ([outside(SHAPE.vocabulary)], FULL),
    "negative id": ([outside(-1)], FULL),
    "another depth": ([window(10)], full_configuration(SHAPE.layers + 1)),
}


@each
@pytest.mark.parametrize(("windows", "configuration"), REFUSED.values(), ids=REFUSED)
def test_what_the_interface_refuses_is_refused_and_does_no_harm(
    engines: Engines, name: str, windows: list[Tokens], configuration: LengthConfiguration
) -> None:
    before = answer(engines(name), window(20))
    with pytest.raises(ValueError, match=r"window|vocabulary|layers"):
        engines(name).run(windows, configuration)
    assert (answer(engines(name), window(20)) == before).all()


@each
@pytest.mark.parametrize("configuration", [FULL, DROPPING], ids=lambda one: str(one.id))
def test_the_same_window_gets_the_same_logits_whatever_ran_between(
    engines: Engines, store: Path, name: str, configuration: LengthConfiguration
) -> None:
    engine = engines(name)
    first = answer(engine, window(33), configuration)
    answer(engine, window(80), FULL)
    answer(engine, window(34), DROPPING)
    assert (answer(engine, window(33), configuration) == first).all()
    other = fresh(store, name)
    assert (answer(other, window(33), configuration) == first).all()
    other.close()


@each
def test_several_windows_come_back_in_their_order(engines: Engines, name: str) -> None:
    windows = [window(length) for length in (40, 7, 40, 64, 16)]
    windows[2] = window(40, seed=1)
    together = engines(name).run(windows, DROPPING).logits
    assert len(together) == 5
    for tokens, logits in zip(windows, together, strict=True):
        assert (stacked(logits) == answer(engines(name), tokens, DROPPING)).all()


@each
def test_results_stay_as_they_are_when_the_engine_runs_again(engines: Engines, name: str) -> None:
    first = engines(name).run([window(20)], FULL).logits[0]
    kept = stacked(first)
    engines(name).run([window(20, seed=9)], FULL)
    assert (stacked(first) == kept).all()


@each
def test_closing_twice_does_nothing_more(store: Path, name: str) -> None:
    engine = fresh(store, name)
    engine.close()
    engine.close()


@each
def test_warming_up_changes_no_answer(store: Path, name: str) -> None:
    engine = fresh(store, name, "tiny")
    configurations = [point.configuration for point in ModelStore(store).load("tiny").table.points]
    tokens = window(21, vocabulary=TINY.vocabulary)
    cold = [answer(engine, tokens, configuration) for configuration in configurations]
    engine.warm_up(configurations)
    for configuration, before in zip(configurations, cold, strict=True):
        assert (answer(engine, tokens, configuration) == before).all()
    engine.close()


def test_after_warming_up_no_text_brings_a_layer_a_new_number_of_rows(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = fresh(store, "openvino", "tiny")
    asked: list[tuple[bool, dict[str, Any]]] = []

    def noting(dropping: bool, infer: Callable[..., object]) -> SimpleNamespace:  # noqa: FBT001 - the engine's own key
        def noted(inputs: dict[str, Any], **options: bool) -> object:
            asked.append((dropping, inputs))
            return infer(inputs, **options)

        return SimpleNamespace(infer=noted)

    def met() -> set[tuple[bool, int, int]]:
        rows = [(dropping, len(each["token_ids"]), *each.get("rows", ())) for dropping, each in asked]
        return {(bool(dropping), layer, count) for dropping, *counts in rows for layer, count in enumerate(counts)}

    requests = {dropping: noting(dropping, request.infer) for dropping, request in engine._requests.items()}
    monkeypatch.setattr(engine, "_requests", requests)
    configurations = [point.configuration for point in ModelStore(store).load("tiny").table.points]
    engine.warm_up(configurations)
    warm, calls = met(), len(asked)
    for configuration in configurations:
        for length in range(2, 49):  # max_length is 48
            answer(engine, window(length, vocabulary=TINY.vocabulary), configuration)
    assert met() == warm
    assert calls < len(asked)
    assert {rows % 8 for _, _, rows in warm} == {0}
    assert {dropping for dropping, _, _ in warm} == {False, True}


def without_bf16(self: ov.Core, device: str, name: str) -> object:
    return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else "some processor"


def test_a_precision_that_the_processor_lacks_is_refused_and_auto_takes_f32(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov.Core, "get_property", without_bf16)
    artifact = ModelStore(store).load("int8")
    with pytest.raises(EngineUnavailableError, match=r"bf16 needs a processor with AVX512-BF16.*auto or f32"):
        create_engine("openvino", artifact, threads=1, precision="bf16")
    engine = create_engine("openvino", artifact, threads=1, precision="auto")
    assert engine.info.precision == OPENVINO_PRECISION
    engine.close()


@pytest.mark.parametrize("configuration", [FULL, DROPPING, EXEMPTING])
def test_openvino_computes_the_float_twin_as_the_reference_does(
    engines: Engines, configuration: LengthConfiguration
) -> None:
    mine, wanted = engines("openvino", "float"), engines("reference", "float")
    assert mine.info.precision == "f32"
    for length in (5, 23):
        tokens = window(length)
        np.testing.assert_allclose(
            answer(mine, tokens, configuration), answer(wanted, tokens, configuration), atol=1e-4
        )
