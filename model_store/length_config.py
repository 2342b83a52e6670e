"""Length configurations: how many tokens each layer keeps.

Length-Adaptive Transformer (Kim and Cho 2021, section 3.1), with ratios of the *real* length in place of
absolute counts, so that one configuration serves every length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

COUNT_STEP = 8
"""Token counts are rounded up to a multiple of this, so that engines meet few different shapes."""

MINIMUM_TOKENS = 2
"""No layer keeps fewer tokens than this (the paper's floor)."""


@dataclass(frozen=True, slots=True)
class LengthConfiguration:
    """Non-increasing keep ratios per layer.

    Attributes:
        id: ``full``, ``c01``, ``c02``, ... by falling cost; used by command line, headers and metrics.
        ratios: for each layer the share of the real length that its feed-forward part and all later
            layers see, in (0, 1], non-increasing.

    Raises:
        ValueError: no ratio, a ratio outside (0, 1] or NaN, or an increase from one layer to the next.
    """

    id: str
    ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.ratios:
            raise ValueError(f"length configuration {self.id!r} has no ratios")
        if not all(0.0 < ratio <= 1.0 for ratio in self.ratios):
            raise ValueError(f"length configuration {self.id!r}: every ratio must be in (0, 1], got {self.ratios}")
        if any(later > earlier for earlier, later in pairwise(self.ratios)):
            raise ValueError(f"length configuration {self.id!r}: ratios must not increase, got {self.ratios}")

    @property
    def is_full(self) -> bool:
        """Whether no layer drops a token."""
        return self.ratios[-1] == 1.0

    def kept_tokens(self, real_length: int) -> tuple[int, ...]:
        """Tokens kept by each layer for a window of `real_length` tokens.

        ``ceil(ratio * real_length)``, at least `MINIMUM_TOKENS`, rounded up to a multiple of `COUNT_STEP`
        and cut at `real_length`.  Every engine uses these counts, so that engines can be compared.
        """
        return tuple(self._kept(ratio, real_length) for ratio in self.ratios)

    @staticmethod
    def _kept(ratio: float, real_length: int) -> int:
        wanted = max(math.ceil(ratio * real_length - 1e-9), MINIMUM_TOKENS)
        return min(math.ceil(wanted / COUNT_STEP) * COUNT_STEP, real_length)


def full_configuration(layers: int) -> LengthConfiguration:
    """The configuration that keeps every token in each of `layers` layers."""
    return LengthConfiguration("full", (1.0,) * layers)
