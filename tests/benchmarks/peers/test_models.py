"""The opponents that carry our weights answer as our reference does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import create_runner
from benchmarks.peers.weights import SHAPES, float_tensors, random_int8_tensors
from model_store import Architecture, validate_tensors
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
    found, expected = static.run(PIECE.padded(length, 0), "full"), dynamic.run(PIECE, "full")
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == (PIECE.real_length,)
        np.testing.assert_allclose(mine, theirs, atol=0.02)


@pytest.mark.parametrize("length", [0, 48])
def test_transformers_bert_with_our_weights_is_the_reference(where: dict[str, Any], length: int) -> None:
    pytest.importorskip("transformers")
    floats = {**where, "spec": "float"}
    eager = create_runner({**floats, "runner": "torch_eager", "model": "ours"})
    reference = create_runner({**floats, "runner": "leeway", "engine": "reference"})
    found, expected = eager.run(PIECE.padded(length, 0), "full"), reference.run(PIECE, "full")
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


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
