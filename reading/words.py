"""Whole words around text spans."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\S+")


def word_bounds(
    text: str, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Widen spans of `text` to the words (between white space) that they touch.

    Args:
        text: the text.
        starts: int64 ``[n]``, first code point of each span.
        ends: int64 ``[n]``, one past its last code point, greater than its start.

    Returns:
        The widened starts and ends, int64 ``[n]`` each.  A bound in white space stays where it is.
    """
    words = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    if not len(words):
        return starts, ends
    holding = words[np.maximum(np.searchsorted(words[:, 0], starts, side="right") - 1, 0)]
    inside = (holding[:, 0] <= starts) & (starts < holding[:, 1])
    wide_starts = np.where(inside, holding[:, 0], starts)
    holding = words[np.maximum(np.searchsorted(words[:, 0], ends - 1, side="right") - 1, 0)]
    inside = (holding[:, 0] < ends) & (ends <= holding[:, 1])
    wide_ends = np.where(inside, holding[:, 1], ends)
    return wide_starts, wide_ends
