"""Genes: length configurations as the searchers see them, small integers that never rise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from model_store import LengthConfiguration, full_configuration
from model_store.length_config import COUNT_STEP

Genes = tuple[int, ...]
"""One keep count per layer, in steps: gene / levels is the share kept at the nominal length.  Non-increasing.

In a space that skims, what the first layer sees comes before them.
"""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class GeneSpace:
    """All non-increasing keep counts between a smallest configuration and ``full``.

    Take for `levels` a nominal length divided by `model_store.length_config.COUNT_STEP`: then every gene is a
    token count of its own at that length, and no configuration gets tokens for nothing by rounding.

    Attributes:
        levels: the gene that keeps everything.
        smallest: the least that each layer may keep; one per layer.
        exempt: steps of tokens that a configuration's ratios do not count (`LengthConfiguration.exempt_tokens`): a gene
            is the same count at the nominal length with them or without, and at other lengths another one.
        skims: whether the first gene is what the first layer sees (`LengthConfiguration.input_ratio`).

    Raises:
        ValueError: no layer, or `smallest` rising or outside 1..levels, or `exempt` beyond the least of it.
    """

    levels: int
    smallest: Genes
    exempt: int = 0
    skims: bool = False

    def __post_init__(self) -> None:
        if not self.smallest or not all(1 <= gene <= self.levels for gene in self.smallest):
            raise ValueError(f"the smallest genes must be in 1..{self.levels}, one per layer, got {self.smallest}")
        if any(later > earlier for earlier, later in pairwise(self.smallest)):
            raise ValueError(f"the smallest genes must not rise, got {self.smallest}")
        entering = self.smallest[0] if self.skims else self.levels
        if not 0 <= self.exempt <= min(self.smallest[-1], entering - 1):
            raise ValueError(f"{self.exempt} exempt steps do not fit under the smallest genes, {self.smallest}")

    @classmethod
    def of_drop(cls, layers: int, levels: int, drop: float, exempt: int = 0, input_drop: float = 0.0) -> GeneSpace:
        """The space above the smallest sub-model of LengthDrop training with probability `drop`.

        That one keeps ``ceil((1 - drop) l)`` of the l tokens before, layer after layer (Kim and Cho 2021,
        section 3.2): the network never saw fewer.  Nor does any layer keep fewer than the exempt steps.  Under a
        positive `input_drop` the space skims: up to this share of a window is left out before the first layer.

        Raises:
            ValueError: `drop` or `input_drop` outside [0, 1), no layer or no level, or `exempt` not below `levels`.
        """
        if not (0.0 <= drop < 1.0 and 0.0 <= input_drop < 1.0) or layers < 1 or levels < 1:
            raise ValueError(
                f"drops must be in [0, 1) and layers and levels positive: {drop}, {input_drop}, {layers}, {levels}"
            )
        smallest = tuple(max(gene, exempt) for gene in constant_drop(layers, levels, drop))
        if input_drop == 0.0:
            return cls(levels, smallest, exempt)
        (entering,) = constant_drop(1, levels, input_drop)
        entering = max(entering, exempt + 1)
        return cls(levels, (entering, *(min(gene, entering) for gene in smallest)), exempt, skims=True)

    @property
    def layers(self) -> int:
        """Layers of a configuration."""
        return len(self.smallest) - self.skims

    @property
    def full(self) -> Genes:
        """Keeps everything."""
        return (self.levels,) * len(self.smallest)

    def check(self, genes: Genes) -> Genes:
        """`genes`, if they are of this space.

        Raises:
            ValueError: another number of layers, an increase, or a gene out of bounds.
        """
        if len(genes) != len(self.smallest) or any(later > earlier for earlier, later in pairwise(genes)):
            raise ValueError(f"genes must be {len(self.smallest)} counts that do not rise, got {genes}")
        if any(not low <= gene <= self.levels for gene, low in zip(genes, self.smallest, strict=True)):
            raise ValueError(f"genes must be between {self.smallest} and {self.full}, got {genes}")
        return genes

    def configuration(self, genes: Genes) -> LengthConfiguration:
        """The length configuration; its id is the genes joined by dashes, ``full`` for that one."""
        self.check(genes)
        if genes == self.full:
            return full_configuration(self.layers)
        entering, kept = (genes[0], genes[1:]) if self.skims else (self.levels, genes)
        ratios = tuple((gene - self.exempt) / (entering - self.exempt) for gene in kept)
        share = (entering - self.exempt) / (self.levels - self.exempt)
        return LengthConfiguration("-".join(map(str, genes)), ratios, self.exempt * COUNT_STEP, share)

    def constant_ratios(self, count: int) -> tuple[Genes, ...]:
        """`count` or fewer configurations that drop a constant share per layer, dearest first, both ends included.

        The shares are evenly spaced from 0 to the one that ends at the last layer's smallest gene.  Equal ones
        are given once.  The first is `full`, the last `smallest`; in a space that skims none of these does, and the
        last is the smallest of them.

        Raises:
            ValueError: `count` under 2.
        """
        if count < 2:
            raise ValueError(f"both ends are two configurations, not {count}")
        widest = 1.0 - (self.smallest[-1] / self.levels) ** (1.0 / self.layers)
        found: dict[Genes, None] = {}
        drops = np.linspace(0.0, widest, count)
        for drop in drops if self.skims else drops[:-1]:
            genes = constant_drop(self.layers, self.levels, float(drop))
            genes = (self.levels, *genes) if self.skims else genes
            found[tuple(max(pair) for pair in zip(genes, self.smallest, strict=True))] = None
        if self.skims:
            return tuple(found)
        found.pop(self.smallest, None)
        return (*found, self.smallest)

    def skimmed(self) -> tuple[Genes, ...]:
        """Configurations that skim, dearest first; none in a space that does not skim.

        What is left of a text goes through all layers, or half of it is dropped behind the last layer but one and all
        but the least behind the last: above 40% of the cost, fronts drop next to nothing before (LOG.md).
        """
        if not self.skims:
            return ()
        found: dict[Genes, None] = {}
        for entering in range(self.levels - 1, self.smallest[0] - 1, -1):
            whole = (entering,) * len(self.smallest)
            found[whole] = None
            if self.layers > 1:
                found[(*whole[:-2], max(math.ceil(entering / 2), self.smallest[-2]), self.smallest[-1])] = None
        return tuple(found)


def constant_drop(layers: int, levels: int, drop: float) -> Genes:
    """``ceil((1 - drop) l)`` of the l before, layer after layer, from `levels` on."""
    genes, left = [], levels
    for _ in range(layers):
        left = max(1, math.ceil((1.0 - drop) * left - _ROUNDING))
        genes.append(left)
    return tuple(genes)
