"""The opponents that carry our weights answer as our reference does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import create_runner
from benchmarks.peers.runners.leeway import LeewayRunner
from benchmarks.peers.weights import SHAPES, float_tensors, random_int8_tensors
from model_store import Architecture, LengthConfiguration, validate_tensors
from server.engine.fake import FakeEngine
from server.engine.interface import IntArray
from server.engine.skimming import LEFT_OUT_LOGIT, SkimmingEngine
from tests.model_store.tiny_artifact import TINY, publish_tiny, tiny_tensors

PIECE = Piece(np.array([2, *range(5, 20), 3], dtype=np.int32), 6, 17)
SMALL = Architecture(layers=2, hidden=8, heads=2, intermediate=16, vocabulary=40, positions=32)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root: Path = tmp_path_factory.mktemp("store")
    publish_tiny(root)
    publish_tiny(root, "float", "none")
    return {"store": str(root), "spec": "tiny", "threads": 1}


@pytest.mark.parametrize("length", [0, 48])
def test_the_static_graph_is_the_dynamic_one_without_dropping(where: dict[str, Any], length: int) -> None:
    static = create_runner({**where, "runner": "static", "model": "ours"})
    dynamic = create_runner({**where, "runner": "leeway", "engine": "openvino"})
    (found,), (expected,) = static.run([PIECE.padded(length, 0)], "full"), dynamic.run([PIECE], "full")
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == (PIECE.real_length,)
        np.testing.assert_allclose(mine, theirs, atol=0.02)


@pytest.mark.parametrize("length", [0, 48])
def test_transformers_bert_with_our_weights_is_the_reference(where: dict[str, Any], length: int) -> None:
    pytest.importorskip("transformers")
    floats = {**where, "spec": "float"}
    eager = create_runner({**floats, "runner": "torch_eager", "model": "ours"})
    reference = create_runner({**floats, "runner": "leeway", "engine": "reference"})
    (found,), (expected,) = eager.run([PIECE.padded(length, 0)], "full"), reference.run([PIECE], "full")
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


class Alike:
    """A scorer that finds one token of a text as good as any other."""

    def scores(self, question: IntArray, text: IntArray) -> NDArray[np.float32]:
        return np.zeros(len(text), dtype=np.float32)


def test_how_much_is_left_of_a_text_depends_on_it_where_it_fits_one_window_as_in_the_server() -> None:
    wide = replace(TINY, positions=128)
    half = LengthConfiguration("c01", (1.0,) * TINY.layers, input_ratio=0.5)
    margins = np.full(19, 3.0, dtype=np.float32)
    runner = LeewayRunner(SkimmingEngine(FakeEngine(wide), Alike(), wide, margins), {"c01": half})
    window = Piece(np.array([2, 6, 7, 8, 3, *[9] * 101, 3], dtype=np.int32), 5, 107)

    def left(pieces: list[Piece]) -> list[int]:
        return [int((start > LEFT_OUT_LOGIT).sum()) for start, _ in runner.run(pieces, "c01")]

    assert left([window]) == [107]
    assert left([replace(window, real_length=106)]) == [55]  # padded: by its length, and the padding is not shown
    assert left([window, window]) == [56, 56]


def test_float_weights_are_what_the_format_says() -> None:
    tensors = tiny_tensors()
    found = float_tensors(tensors, TINY)
    validate_tensors(found, TINY, "none")
    name = "layers.1.output"
    expected = tensors[f"{name}.weight"] * tensors[f"{name}.weight_scale"][:, None] / tensors[f"{name}.input_scale"]
    np.testing.assert_allclose(found[f"{name}.weight"], expected, rtol=1e-6)
    assert float_tensors(found, TINY).keys() == found.keys()


def test_random_weights_make_a_whole_artifact_and_are_the_same_every_time() -> None:
    found = random_int8_tensors(SMALL)
    validate_tensors(found, SMALL, "int8")
    again = random_int8_tensors(SMALL)
    assert all((value == again[name]).all() for name, value in found.items())


def test_the_shapes_are_those_of_the_papers() -> None:
    sizes = {name: (each.layers, each.hidden, each.intermediate) for name, each in SHAPES.items()}
    assert sizes == {"bert_base": (12, 768, 3072), "distilbert": (6, 768, 3072)}


def test_an_unknown_runner_is_refused() -> None:
    with pytest.raises(ValueError, match="no runner 'os'"):
        create_runner({"runner": "os"})
