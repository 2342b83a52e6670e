"""The skimmer: a small reader that says which part of a text is worth the layers' time (FORMAT.md).

It sees the question and the text as word pieces, scores every token of the text by how likely it is part of the answer,
and the text around the highest scores is what the first layer gets.  Choosing sentences before the reader: Min et al.
2018, "Efficient and Robust Question Answering from Minimal Context over Documents", section 3; the network is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.errors import InvalidTensorError
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

MARGIN_SHARES = tuple(step / 20 for step in range(1, 20))
"""Shares of a text's tokens, and for each a margin in the tensor ``margin``: see `marginal_count`."""

MOST_OF_SHARE = 2.0
"""A text keeps at most so many times the tokens that its share is."""

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
    layout["margin"] = TensorSpec("float32", ((len(MARGIN_SHARES),),), optional=True)
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
        InvalidTensorError: see `model_store.tensors.validate_tensors`; or margins that are negative or fall.
        OSError: the file could not be written.
    """
    _check_margins(tensors)
    write_tensors_of(path, tensors, skimmer_layout(vocabulary))


def read_skimmer(path: Path, vocabulary: int) -> Tensors:
    """All tensors by name, checked; raises as `model_store.tensors.read_tensors` and, for margins, `write_skimmer`."""
    tensors = read_tensors_of(path, skimmer_layout(vocabulary))
    _check_margins(tensors)
    return tensors


def check_skimmer_file(path: Path, vocabulary: int) -> None:
    """Check what can be checked without reading the data; raises as `model_store.tensors.check_tensor_file`."""
    check_layout_of_file(path, skimmer_layout(vocabulary))


@dataclass(frozen=True, slots=True)
class RankedTokens:
    """The tokens of a text, the first to keep first.

    Attributes:
        order: int64 ``[n]``, their places.
        worth: float32 ``[n]``, what each counts, falling: the best score within `REACH` of it.
    """

    order: NDArray[np.int64]
    worth: NDArray[np.float32]

    def first(self, count: int) -> NDArray[np.int64]:
        """Places of the `count` tokens to keep, at most all, in reading order."""
        return np.sort(self.order[:count])


def rank_tokens(scores: NDArray[np.float32]) -> RankedTokens:
    """Rank the tokens of a text around the highest scores.

    Each counts as much as the best within `REACH` of it, and among those that count alike the higher score of
    their own goes first, then the earlier token.

    Args:
        scores: float32 ``[n]``.
    """
    padded = np.pad(scores, REACH, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1).max(axis=1)
    order = np.lexsort((-scores, -around))  # stable: of equal ones the earlier first
    return RankedTokens(order, around[order])


def chosen_tokens(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the `count` tokens to keep, at most all, in reading order; see `rank_tokens`."""
    return rank_tokens(scores).first(count)


def margin_of(share: float, margins: NDArray[np.float32]) -> float:
    """The margin of texts that keep `share` of their tokens in the mean; linear between `MARGIN_SHARES`.

    Args:
        share: in (0, 1).
        margins: float32 ``[len(MARGIN_SHARES)]``, rising: the tensor ``margin`` of a skimmer.
    """
    return float(np.interp(share, MARGIN_SHARES, margins))


def marginal_count(worth: NDArray[np.float32], share: int, margin: float) -> int:
    """How many tokens of a text to keep where texts like it keep `share` in the mean.

    All that count at most `margin` less than the best: few where one stretch of the text stands out, many where
    the skimmer is not sure.  At least `SHORTEST_TEXT`, at most `MOST_OF_SHARE` times `share`, and never more than
    there are.

    Args:
        worth: of `RankedTokens`.
        share: tokens, at least `SHORTEST_TEXT`.
        margin: not negative.
    """
    near = int(np.searchsorted(-worth, np.float32(margin) - worth[0], side="right"))
    return min(max(near, SHORTEST_TEXT), int(MOST_OF_SHARE * share), len(worth))


def _check_margins(tensors: Mapping[str, NDArray[Any]]) -> None:
    margins = tensors.get("margin")
    if margins is not None and len(margins) and (margins[0] < 0.0 or bool((np.diff(margins) < 0.0).any())):
        raise InvalidTensorError("margin holds a margin that is negative or less than the one before")
