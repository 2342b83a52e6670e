"""LengthDrop and LayerDrop: which tokens and layers the sub-models of a training step keep.

Length-Adaptive Transformer (Kim and Cho 2021, section 3.2): the number of tokens that the next layer keeps is a
uniform integer in ``[ceil((1 - p) l), l]``, l being what the layer before kept.  Here one path of counts is drawn per
batch, for its longest window, and every other window keeps the same *ratios* of its own real length.  A path per
window would make each layer as wide as the luckiest window of the batch: more padding, so more time, for the same
counts on average.

Every draw is a function of (seed, step), so a resumed run needs no generator's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_store import Architecture, macs
from model_store.length_config import MINIMUM_TOKENS
from trainer.network import Batch

PROTECTIONS = ("none", "special", "question")

_STREAM = 1
"""Sets these draws apart from others with the same seed."""


@dataclass(frozen=True, slots=True)
class SubModel:
    """One pass of a training step: the network with some tokens and layers left out.

    Attributes:
        kept: int64 ``[layers, b]``, tokens that each layer keeps of each sample; None keeps all.
        protected: bool ``[b, n]``, tokens that are not dropped; None protects none.
        skipped: for each layer, whether it is left out.
    """

    kept: Tensor | None
    protected: Tensor | None
    skipped: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LengthDrop:
    """Draws the sub-models of a step.

    Attributes:
        layers: of the network.
        probability: p, the largest share of its tokens that a layer may drop, in [0, 1).
        layer_drop: probability that a layer is left out of a pass, in [0, 1).
        layer_drop_full: whether that goes for the full pass too (as in the paper's code; not by default).
        random_passes: random sub-models per step.
        protect: ``none``; ``special`` for [CLS] and both [SEP]; ``question`` for these and the question.
        seed: of all draws.

    Raises:
        ValueError: a probability outside its range, fewer than 0 passes, or another word for `protect`.
    """

    layers: int
    probability: float = 0.35
    layer_drop: float = 0.0
    layer_drop_full: bool = False
    random_passes: int = 2
    protect: str = "none"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("probability", "layer_drop"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.random_passes < 0:
            raise ValueError(f"random_passes must not be negative, got {self.random_passes}")
        if self.protect not in PROTECTIONS:
            raise ValueError(f"protect must be one of {', '.join(PROTECTIONS)}, got {self.protect!r}")

    def sub_models(self, batch: Batch, step: int) -> list[SubModel]:
        """The passes of `step` on `batch`: full, smallest, then the random ones (sandwich rule)."""
        rng = np.random.default_rng((self.seed, step, _STREAM))
        protected = protected_tokens(batch, self.protect)
        longest = int(batch.lengths.max())
        full = SubModel(None, None, self._skipped(rng) if self.layer_drop_full else (False,) * self.layers)
        passes = [full, self._dropping(batch, smallest_path(longest, self.layers, self.probability), protected, rng)]
        for _ in range(self.random_passes):
            path = random_path(longest, self.layers, self.probability, rng)
            passes.append(self._dropping(batch, path, protected, rng))
        return passes

    def _dropping(
        self, batch: Batch, path: Sequence[int], protected: Tensor | None, rng: np.random.Generator
    ) -> SubModel:
        return SubModel(scaled_counts(path, batch.lengths, protected), protected, self._skipped(rng))

    def _skipped(self, rng: np.random.Generator) -> tuple[bool, ...]:
        # drawn even where nothing can be left out: the lengths then do not depend on layer_drop
        return tuple(bool(draw < self.layer_drop) for draw in rng.random(self.layers))


def smallest_path(length: int, layers: int, probability: float) -> list[int]:
    """Counts of the smallest sub-model for `length` tokens: ``ceil((1 - p) l)`` layer after layer, at least 2."""
    path = []
    for _ in range(layers):
        length = _lowest(length, probability)
        path.append(length)
    return path


def random_path(length: int, layers: int, probability: float, rng: np.random.Generator) -> list[int]:
    """Counts for `length` tokens, each uniform in ``[ceil((1 - p) l), l]``, at least 2."""
    path = []
    for _ in range(layers):
        length = int(rng.integers(_lowest(length, probability), length, endpoint=True))
        path.append(length)
    return path


def _lowest(length: int, probability: float) -> int:
    wanted = int(np.ceil((1.0 - probability) * length - 1e-9))
    return min(length, max(wanted, MINIMUM_TOKENS))


def scaled_counts(path: Sequence[int], lengths: Tensor, protected: Tensor | None = None) -> Tensor:
    """A path of counts, drawn for the longest window, as the same ratios of every window.

    Args:
        path: tokens that each layer keeps of the longest window, non-increasing.
        lengths: int64 ``[b]``, real lengths.
        protected: bool ``[b, n]``; no layer keeps fewer than these.

    Returns:
        int64 ``[layers, b]``: ``ceil(path / longest * length)``, at least 2 and at most the length.
    """
    counts = torch.tensor(path, dtype=torch.int64, device=lengths.device)[:, None]
    longest = lengths.max()
    scaled = (counts * lengths[None] + longest - 1) // longest
    floor = (
        torch.full_like(lengths, MINIMUM_TOKENS) if protected is None else protected.sum(1).clamp(min=MINIMUM_TOKENS)
    )
    return scaled.maximum(floor[None]).minimum(lengths[None])


def protected_tokens(batch: Batch, what: str) -> Tensor | None:
    """Bool ``[b, n]``, tokens that are not to be dropped, by a word of `PROTECTIONS`; None for ``none``."""
    if what == "none":
        return None
    places = torch.arange(batch.token_ids.shape[1], device=batch.lengths.device)[None]
    last = places == batch.lengths[:, None] - 1
    if what == "question":
        return last | (places < batch.segment_starts[:, None])
    return last | (places == 0) | (places == batch.segment_starts[:, None] - 1)


def smallest_share(architecture: Architecture, probability: float, real_length: int = 170) -> float:
    """MACs of the smallest sub-model as a share of the full model's; 170 is the mean real length of SQuAD."""
    smallest = smallest_path(real_length, architecture.layers, probability)
    full = macs(architecture, real_length, [real_length] * architecture.layers)
    return macs(architecture, real_length, smallest) / full
