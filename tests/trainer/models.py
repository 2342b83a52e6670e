"""Small models as the trainer makes them, in a store, and the engines that run them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store import (
    Architecture,
    Artifact,
    LengthConfiguration,
    ModelDescription,
    ModelStore,
    Tensors,
    full_configuration,
    write_tensors,
)
from server.engine import create_engine
from server.engine.interface import Engine, IntArray, WindowLogits
from tests.model_store.tiny_artifact import (
    CREATED,
    TINY,
    publish_tiny,
    tiny_description,
    tiny_table,
    write_tiny_files,
)
from tests.trainer.helpers import quantized, random_batch, random_network
from trainer.quantize import float_tensors, observe

SHAPE = Architecture(
    layers=3, hidden=32, heads=4, intermediate=64, vocabulary=TINY.vocabulary, positions=80, layer_norm_epsilon=1e-12
)
QUESTION = replace(SHAPE, significance="question")
LEARNED = replace(SHAPE, significance="learned")
BILINEAR = replace(SHAPE, significance="bilinear")
FULL = full_configuration(SHAPE.layers)
DROPPING = LengthConfiguration("c01", (0.9, 0.6, 0.3))
EXEMPTING = LengthConfiguration("c02", (0.9, 0.4, 0.0), exempt_tokens=16)
EDGES = (3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 79, 80)  # around the engine's length buckets


@dataclass(frozen=True)
class Tokens:
    """What an engine reads of a window."""

    token_ids: IntArray
    segment_start: int


def window(length: int, seed: int = 0, vocabulary: int = SHAPE.vocabulary) -> Tokens:
    ids = np.random.default_rng((seed, length)).integers(4, vocabulary, length).astype(np.int32)
    return Tokens(ids, min(1 + length // 5, length))


def publish(root: Path, name: str, tensors: Tensors, scheme: str, architecture: Architecture = SHAPE) -> Artifact:
    """An artifact of these tensors; the table's and the tokenizer's contents do not matter to an engine."""

    def build(folder: Path) -> ModelDescription:
        write_tiny_files(folder)
        write_tensors(folder / "model.safetensors", tensors, architecture, scheme)
        tiny_table(architecture).write(folder / "pareto_table.json")
        return tiny_description(architecture, scheme)

    ModelStore(root).publish(name, build, created=CREATED)
    return ModelStore(root).load(name)


def publish_models(root: Path) -> None:
    """``int8``, ``smooth`` (SmoothQuant), three other kinds of significance by their names, ``float``; and ``tiny``."""
    network = random_network(SHAPE, seed=2, scale=0.2)
    publish(root, "float", float_tensors(network), "none")
    ranges = observe(network, [random_batch((12, 40, 80, 33), SHAPE, seed) for seed in range(4)])
    publish(root, "int8", quantized(network, ranges), "int8")
    publish(root, "smooth", quantized(network, ranges, 0.5), "int8")
    for architecture in (LEARNED, BILINEAR):
        taught = random_network(architecture, seed=2, scale=0.2)
        seen = observe(taught, [random_batch((12, 40, 80, 33), SHAPE, seed) for seed in range(4)])
        publish(root, architecture.significance, quantized(taught, seen), "int8", architecture)
    publish(root, "question", quantized(network, ranges), "int8", QUESTION)
    publish_tiny(root)


def fresh(store: Path, name: str, model: str = "int8") -> Engine:
    precision = "f32" if name == "openvino" else "auto"
    return create_engine(name, ModelStore(store).load(model), threads=1, precision=precision)


def stacked(logits: WindowLogits) -> NDArray[np.float32]:
    return np.stack([logits.start, logits.end])


def answer(engine: Engine, tokens: Tokens, configuration: LengthConfiguration = FULL) -> NDArray[np.float32]:
    """float32 ``[2, n]``."""
    return stacked(engine.run([tokens], configuration).logits[0])
