"""The skimmer: a small reader that says which part of a text is worth the layers' time (FORMAT.md).

It sees the question and the text as word pieces, scores every token of the text by how likely it is part of the answer,
and the text around the highest scores is what the first layer gets.  Choosing sentences before the reader: Min et al.
2018, "Efficient and Robust Question Answering from Minimal Context over Documents", section 3; the network is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.tensors import (
    Tensors,
    TensorSpec,
    check_layout_of_file,
    read_tensors_of,
    write_tensors_of,
)

SKIMMER_FILE = "skimmer.safetensors"

WIDTH = 64
"""Channels W of a token."""

HEADS = 4
"""Ways in which a token of the text may match one of the question."""

QUESTION_TAPS = 5
"""Tokens of the question that its convolution sees at once."""

TAPS = 7
"""Tokens of the text that a convolution sees at once."""

DILATIONS = (1, 2, 4, 2, 1)
"""Of the convolutions over the text, in their order."""

REACH = 7
"""A token counts as much as the best one so many tokens before or behind it."""

SHORTEST_TEXT = 8
"""So many tokens of the text stay at least, however long the question is."""

_QUESTION_TOKENS = 15
"""Of a question, in the mean over SQuAD: what `skimmer_macs` counts."""


def skimmer_layout(vocabulary: int) -> dict[str, TensorSpec]:
    """All tensors of a skimmer by name, for word pieces of a vocabulary of so many."""
    layout = {
        "word": TensorSpec("int8", ((vocabulary, WIDTH),)),
        "word.scale": TensorSpec("float32", ((vocabulary,),)),
        "rarity": TensorSpec("float32", ((vocabulary,),)),
        "match": TensorSpec("float32", ((HEADS, WIDTH, WIDTH),)),
        "gate.weight": TensorSpec("float32", ((1, WIDTH),)),
        "mix.matches": TensorSpec("float32", ((WIDTH, HEADS + 1),)),
        "score.weight": TensorSpec("float32", ((1, WIDTH),)),
        "score.bias": TensorSpec("float32", ((1,),)),
    }
    square = TensorSpec("float32", ((WIDTH, WIDTH),))
    layout |= {f"mix.{part}": square for part in ("text", "asked", "product", "question")}
    layout |= {"gate.question": square, "gate.question.bias": TensorSpec("float32", ((WIDTH,),))}
    layout["mix.bias"] = TensorSpec("float32", ((WIDTH,),))
    taps = {"question": QUESTION_TAPS} | {f"blocks.{block}": TAPS for block in range(len(DILATIONS))}
    for block, count in taps.items():
        layout[f"{block}.taps"] = TensorSpec("float32", ((WIDTH, count),))
        layout[f"{block}.taps.bias"] = TensorSpec("float32", ((WIDTH,),))
        layout[f"{block}.weight"] = square
        layout[f"{block}.bias"] = TensorSpec("float32", ((WIDTH,),))
    return layout


def skimmer_macs(real_length: float) -> float:
    """Multiply-accumulate operations of the skimmer for a window of `real_length` tokens with a usual question."""
    asked = HEADS * _QUESTION_TOKENS * WIDTH + _QUESTION_TOKENS * WIDTH
    mixed = 3 * WIDTH**2 + (HEADS + 1) * WIDTH
    blocks = len(DILATIONS) * (WIDTH**2 + TAPS * WIDTH)
    of_question = _QUESTION_TOKENS * ((HEADS + 1) * WIDTH**2 + QUESTION_TAPS * WIDTH) + 2 * WIDTH**2
    return real_length * (asked + mixed + blocks + WIDTH) + of_question


def write_skimmer(path: Path, tensors: Mapping[str, NDArray[Any]], vocabulary: int) -> None:
    """Check `tensors` and write them.

    Raises:
        InvalidTensorError: see `model_store.tensors.validate_tensors`.
        OSError: the file could not be written.
    """
    write_tensors_of(path, tensors, skimmer_layout(vocabulary))


def read_skimmer(path: Path, vocabulary: int) -> Tensors:
    """All tensors by name, checked; raises as `model_store.tensors.read_tensors`."""
    return read_tensors_of(path, skimmer_layout(vocabulary))


def check_skimmer_file(path: Path, vocabulary: int) -> None:
    """Check what can be checked without reading the data; raises as `model_store.tensors.check_tensor_file`."""
    check_layout_of_file(path, skimmer_layout(vocabulary))


def chosen_tokens(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the `count` tokens to keep, in reading order.

    The tokens around the highest scores: each counts as much as the best within `REACH` of it, and among those that
    count alike the higher score of their own goes first, then the earlier token.

    Args:
        scores: float32 ``[n]``.
        count: at most n.
    """
    padded = np.pad(scores, REACH, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1).max(axis=1)
    order = np.lexsort((-scores, -around))  # stable: of equal ones the earlier first
    return np.sort(order[:count])
