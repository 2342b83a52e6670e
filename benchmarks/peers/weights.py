"""Shapes of the models and their weights: ours, taken from the artifact, or random ones that only take time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store import Architecture, ModelStore, Tensors, linear_layers, tensor_layout

BERT_BASE = Architecture(layers=12, hidden=768, heads=12, intermediate=3072, vocabulary=30522, positions=512)
"""Devlin et al. 2019, section 3."""

DISTILBERT = replace(BERT_BASE, layers=6)
"""Sanh et al. 2019, section 3, but for its segment embeddings, which it has none of: one addition per token."""

OURS = "ours"
SHAPES = {"bert_base": BERT_BASE, "distilbert": DISTILBERT}

_SEED = 0


def architecture_of(model: str, store: ModelStore, spec: str) -> Architecture:
    """The shape of `model`, one of `SHAPES` or `OURS`."""
    return store.load(spec, verify_digests=False).manifest.architecture if model == OURS else SHAPES[model]


def float_tensors(tensors: Tensors, architecture: Architecture) -> Tensors:
    """The float32 tensors that an int8 artifact's stand for (``model_store/FORMAT.md``, "Arithmetic").

    A float artifact's come back as they are.
    """
    if "embeddings.word.scale" not in tensors:
        return dict(tensors)
    found = {name: value for name, value in tensors.items() if name in tensor_layout(architecture, "none")}
    found["embeddings.word"] = tensors["embeddings.word"] * tensors["embeddings.word.scale"][:, None]
    for linear in linear_layers(architecture):
        scale = tensors[f"{linear.name}.weight_scale"][:, None] / tensors[f"{linear.name}.input_scale"][None]
        found[f"{linear.name}.weight"] = (tensors[f"{linear.name}.weight"] * scale).astype(np.float32)
    return found


def random_int8_tensors(architecture: Architecture) -> Tensors:
    """Tensors of the scheme ``int8`` that mean nothing, with one input scale per linear layer."""
    generator = np.random.default_rng(_SEED)
    return {
        name: _random(name, spec.shapes[0], generator) for name, spec in tensor_layout(architecture, "int8").items()
    }


def _random(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
    if name.endswith(".input_zero_point"):
        return np.full(shape, 128, dtype=np.uint8)
    if name.endswith("norm.weight"):
        return np.ones(shape, dtype=np.float32)
    if name.endswith(("bias", "scale")):
        value = {"bias": 0.0, "input_scale": 4.0 / 127}.get(name.rpartition(".")[2], 0.02 / 127)
        return np.full(shape, value, dtype=np.float32)
    if name.startswith("layers.") or name == "embeddings.word":
        return generator.integers(-127, 128, shape, dtype=np.int8)
    return generator.normal(0.0, 0.02, shape).astype(np.float32)
