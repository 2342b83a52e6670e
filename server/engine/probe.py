"""Windows of no text in particular, to warm up and to measure engines with: what tokens say changes no time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from server.engine.interface import IntArray

QUESTION_TOKENS = 12
"""Of the question of a window that stands for all of its length."""


@dataclass(frozen=True, slots=True)
class ProbeWindow:
    """A window that stands for all of its length; see `server.engine.interface.WindowTokens`."""

    token_ids: IntArray
    segment_start: int

    @classmethod
    def drawn(cls, length: int, vocabulary: int, generator: np.random.Generator) -> ProbeWindow:
        """`length` tokens out of `vocabulary`."""
        token_ids = generator.integers(vocabulary, size=length, dtype=np.int32)
        return cls(token_ids, min(QUESTION_TOKENS, length))
