"""Code points to UTF-16 code units, for callers whose strings count those (JavaScript, Java, C#)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FIRST_SUPPLEMENTARY = 0x10000  # from here on a code point is two UTF-16 units (a surrogate pair)


def utf16_offsets(text: str) -> NDArray[np.int64]:
    """For every code point position of `text`, the same position in UTF-16 code units.

    Linear in the length of `text`.

    Returns:
        int64 ``[len(text) + 1]``: entry ``i`` is the number of UTF-16 units before code point ``i``, the
        last entry the length of `text` in UTF-16 units.

    Raises:
        ValueError: `text` holds a lone surrogate.
    """
    try:
        raw = text.encode("utf-32-le")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text holds a lone surrogate at code point {error.start}") from error
    code_points = np.frombuffer(raw, dtype="<u4")
    offsets = np.zeros(len(text) + 1, dtype=np.int64)
    np.cumsum(1 + (code_points >= _FIRST_SUPPLEMENTARY), out=offsets[1:])
    return offsets


def to_utf16(text: str, positions: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions in code points to positions in UTF-16 code units.

    Args:
        text: the text that the positions count in.
        positions: ``[n]``, each from 0 to ``len(text)``, both included.

    Raises:
        ValueError: `text` holds a lone surrogate, or a position lies outside the text.
    """
    places = np.asarray(positions, dtype=np.int64)
    if places.size and (places.min() < 0 or places.max() > len(text)):
        raise ValueError(f"a position lies outside the text of {len(text)} code points")
    return utf16_offsets(text)[places]
