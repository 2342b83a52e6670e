"""Length configurations: how many tokens each layer keeps.

Length-Adaptive Transformer (Kim and Cho 2021, section 3.1), with ratios of the *real* length in place of
absolute counts, so that one configuration serves every length.  Some tokens may be exempt from the ratios: a window
holds a question and special tokens however short its text is, and a plain ratio leaves a short one too few.
Part of a text may be left out before the first layer, where the artifact has a skimmer (`model_store.skimmer`).
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
    """Non-increasing keep ratios per layer, and how much of a window the first layer sees.

    Attributes:
        id: ``full``, ``c01``, ``c02``, ... by falling cost; used by command line, headers and metrics.
        ratios: for each layer the share of the tokens that the first layer sees, less the exempt ones, that its
            feed-forward part and all later layers see beside them, in (0, 1], non-increasing; 0 too where tokens are
            exempt.
        exempt_tokens: how many tokens of a window the ratios do not count.  Which ones are kept is still for
            significance alone to say.
        input_ratio: the share of the window, less the exempt tokens, that the first layer sees beside them, in
            (0, 1].  Below 1 a skimmer chooses which part of the text that is; the question stays.

    Raises:
        ValueError: no ratio, a ratio outside that range or NaN, an increase from one layer to the next, or a
            negative number of tokens.
    """

    id: str
    ratios: tuple[float, ...]
    exempt_tokens: int = 0
    input_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not self.ratios:
            raise ValueError(f"length configuration {self.id!r} has no ratios")
        if self.exempt_tokens < 0:
            raise ValueError(f"length configuration {self.id!r}: {self.exempt_tokens} exempt tokens are not a count")
        if not all(0.0 < ratio <= 1.0 or (ratio == 0.0 and self.exempt_tokens) for ratio in self.ratios):
            wanted = "[0, 1]" if self.exempt_tokens else "(0, 1]"
            raise ValueError(f"length configuration {self.id!r}: every ratio must be in {wanted}, got {self.ratios}")
        if any(later > earlier for earlier, later in pairwise(self.ratios)):
            raise ValueError(f"length configuration {self.id!r}: ratios must not increase, got {self.ratios}")
        if not 0.0 < self.input_ratio <= 1.0:
            raise ValueError(f"length configuration {self.id!r}: input ratio must be in (0, 1], got {self.input_ratio}")

    @property
    def is_full(self) -> bool:
        """Whether no token is left out, before the layers or by one of them."""
        return self.input_ratio == 1.0 and self.drops_nothing

    @property
    def drops_nothing(self) -> bool:
        """Whether no layer drops a token."""
        return self.ratios[-1] == 1.0

    def input_tokens(self, real_length: int) -> int:
        """Tokens of a window of `real_length` that the first layer sees; rounded as in `kept_tokens`.

        A window whose question alone fills that number keeps more (`model_store.skimmer.SHORTEST_TEXT`).
        """
        return real_length if self.input_ratio == 1.0 else self._kept(self.input_ratio, real_length)

    def kept_tokens(self, real_length: int) -> tuple[int, ...]:
        """Tokens kept by each layer for a window of which the first layer sees `real_length` tokens.

        ``ceil(e + ratio * (real_length - e))`` of a window longer than the e exempt tokens, at least
        `MINIMUM_TOKENS`, rounded up to a multiple of `COUNT_STEP` and cut at `real_length`.  Every engine uses
        these counts, so that engines can be compared.
        """
        return tuple(self._kept(ratio, real_length) for ratio in self.ratios)

    def _kept(self, ratio: float, real_length: int) -> int:
        exempt = min(self.exempt_tokens, real_length)
        wanted = max(math.ceil(exempt + ratio * (real_length - exempt) - 1e-9), MINIMUM_TOKENS)
        return rounded_count(wanted, real_length)


def rounded_count(count: int, real_length: int) -> int:
    """`count` up to the next multiple of `COUNT_STEP`, but not beyond `real_length`."""
    return min(math.ceil(count / COUNT_STEP) * COUNT_STEP, real_length)


def full_configuration(layers: int) -> LengthConfiguration:
    """The configuration that keeps every token in each of `layers` layers."""
    return LengthConfiguration("full", (1.0,) * layers)
