"""A whole artifact of a few kilobytes, with random weights: the form of a model without its meaning."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store import (
    Architecture,
    LengthConfiguration,
    Licence,
    ModelDescription,
    ModelStore,
    ParetoPoint,
    ParetoTable,
    Quantization,
    ReadingDefaults,
    StoredVersion,
    Tensors,
    TokenizerInfo,
    full_configuration,
    macs,
    tensor_layout,
    write_tensors,
)
from model_store.skimmer import SKIMMER_FILE, skimmer_layout, write_skimmer

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "who", "what", "where", "when", "is", "was"),
    *("built", "tower", "river", "king", "in", "of", "by", "old", "new", "year", "##s", "##ed", "##ing"),
    *(".", "?", ",", "1900"),
)
TINY = Architecture(
    layers=2, hidden=8, heads=2, intermediate=16, vocabulary=len(WORDS), positions=64, layer_norm_epsilon=1e-12
)
CREATED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def tiny_tokenizer() -> dict[str, Any]:
    """A Hugging Face ``tokenizer.json``: BERT's normalizer and pre-tokenizer over `WORDS`."""
    added = [
        {
            "id": index,
            "content": WORDS[index],
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for index in range(5)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: index for index, word in enumerate(WORDS)},
        },
    }


def tiny_tensors(architecture: Architecture = TINY, scheme: str = "int8", seed: int = 0) -> Tensors:
    """Seeded tensors of the right names, types and shapes; input scales are one per tensor."""
    generator = np.random.default_rng(seed)

    def one(name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if dtype == "int8":
            return generator.integers(-127, 128, shape, dtype=np.int8)
        if dtype == "uint8":
            return np.full(shape, 128, dtype=np.uint8)
        if name.endswith("weight_scale"):
            return generator.uniform(1e-4, 2e-4, shape).astype(np.float32)
        if name.endswith("scale"):
            return generator.uniform(0.01, 0.03, shape).astype(np.float32)
        if name.endswith("norm.weight"):
            return np.ones(shape, dtype=np.float32)
        return generator.normal(0.0, 0.3, shape).astype(np.float32)

    layout = tensor_layout(architecture, scheme)
    return {name: one(name, spec.dtype, spec.shapes[0]) for name, spec in layout.items()}


def tiny_table(architecture: Architecture = TINY) -> ParetoTable:
    """Two points, ``c01`` and ``full``."""

    def point(configuration: LengthConfiguration, f1: float) -> ParetoPoint:
        cost = macs(architecture, 40, configuration.kept_tokens(40))
        return ParetoPoint(configuration, cost, held_out_f1=f1, held_out_exact_match=f1 - 9.0)

    half = LengthConfiguration("c01", (0.5,) * architecture.layers)
    return ParetoTable((point(half, 70.0), point(full_configuration(architecture.layers), 80.0)), 40.0)


def tiny_description(architecture: Architecture = TINY, scheme: str = "int8") -> ModelDescription:
    """What the manifest says of the tiny model."""
    return ModelDescription(
        architecture=architecture,
        tokenizer=TokenizerInfo(lowercase=True, cls_id=2, sep_id=3, pad_id=0),
        reading=ReadingDefaults(max_length=48, overlap=8, max_question=16, max_answer=12),
        quantization=Quantization(scheme, {"weights": "int8 per output channel symmetric"}),
        metrics={"held_out": {"f1": 80.0, "exact_match": 71.0, "questions": 50}},
        training={"base_checkpoint": "random weights", "seed": 0},
        licences=(Licence("weights", "Apache-2.0", "the authors of this project"),),
    )


def write_tiny_files(folder: Path, scheme: str = "int8", seed: int = 0) -> ModelDescription:
    """Write every file but the manifest, as a publisher does."""
    (folder / "MODEL_CARD.md").write_text("# tiny\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tiny_tokenizer()), encoding="utf-8")
    write_tensors(folder / "model.safetensors", tiny_tensors(scheme=scheme, seed=seed), TINY, scheme)
    tiny_table().write(folder / "pareto_table.json")
    return tiny_description(scheme=scheme)


def tiny_builder(scheme: str = "int8", seed: int = 0) -> Callable[[Path], ModelDescription]:
    """A builder for `ModelStore.publish`."""
    return lambda folder: write_tiny_files(folder, scheme, seed)


def publish_tiny(root: Path, name: str = "tiny", scheme: str = "int8", seed: int = 0) -> StoredVersion:
    """Publish the tiny model in the store `root`."""
    return ModelStore(root).publish(name, tiny_builder(scheme, seed), created=CREATED)


def tiny_skimmer(vocabulary: int = len(WORDS), seed: int = 0) -> Tensors:
    """Seeded tensors of a skimmer for the tiny vocabulary."""
    generator = np.random.default_rng((seed, 1))

    def one(dtype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        if dtype == "int8":
            return generator.integers(-127, 128, shape, dtype=np.int8)
        if name.endswith("scale"):
            return generator.uniform(0.003, 0.006, shape).astype(np.float32)
        return generator.normal(0.0, 0.15, shape).astype(np.float32)

    layout = skimmer_layout(vocabulary)
    return {name: one(spec.dtype, spec.shapes[0], name) for name, spec in layout.items() if not spec.optional}


def publish_skimming(root: Path, name: str = "skimming") -> StoredVersion:
    """The tiny model with a skimmer, and a table whose cheaper point skims."""

    def build(folder: Path) -> ModelDescription:
        description = write_tiny_files(folder)
        write_skimmer(folder / SKIMMER_FILE, tiny_skimmer(), TINY.vocabulary)
        skims = LengthConfiguration("c01", (1.0,) * TINY.layers, input_ratio=0.5)
        full = tiny_table().full  # the skimmer costs more than a model as small as this: what it saves is made up
        cheap = ParetoPoint(skims, full.macs / 2, held_out_f1=75.0, held_out_exact_match=66.0)
        ParetoTable((cheap, full), 40.0).write(folder / "pareto_table.json")
        return description

    return ModelStore(root).publish(name, build, created=CREATED)
