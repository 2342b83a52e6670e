"""Length-bucketed batches: windows of like length together, so that little is padding.

The order is a pure function of (lengths, batch size, seed, epoch): a resumed run needs only its step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.features import Features
from trainer.network import Batch

POOL_BATCHES = 50
"""Batches are cut from pools of so many batches' windows sorted by length; larger pools pad less, mix less."""


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """A batch and its labels.

    Attributes:
        inputs: the padded windows.
        starts: bool ``[b, n]``, places where an answer begins.
        ends: bool ``[b, n]``, places where an answer ends.
    """

    inputs: Batch
    starts: Tensor
    ends: Tensor

    @property
    def inside(self) -> Tensor:
        """Bool ``[b, n]``: the tokens of the answers; none in a window without one, whose label is [CLS]."""
        opened, closed = self.starts.int().cumsum(1), self.ends.int().cumsum(1)
        inside = (opened - closed + self.ends.int()) > 0
        inside[:, 0] = False
        return inside


def epoch_order(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Indices of the windows of each batch of an epoch."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    pool = POOL_BATCHES * batch_size
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def collate(features: Features, indices: NDArray[np.int64], pad_id: int) -> LabelledBatch:
    """Pad the windows `indices` to their longest, rounded up to a multiple of 8."""
    lengths = features.lengths[indices]
    width = -(-int(lengths.max()) // 8) * 8
    token_ids = np.full((len(indices), width), pad_id, dtype=np.int64)
    starts = np.zeros((len(indices), width), dtype=bool)
    ends = np.zeros((len(indices), width), dtype=bool)
    for row, index in enumerate(indices):
        token_ids[row, : lengths[row]] = features.token_ids[features.offsets[index] : features.offsets[index + 1]]
        labels = slice(features.label_offsets[index], features.label_offsets[index + 1])
        starts[row, features.label_starts[labels]] = True
        ends[row, features.label_ends[labels]] = True
    inputs = Batch(
        token_ids=torch.from_numpy(token_ids),
        segment_starts=torch.from_numpy(features.segment_starts[indices].astype(np.int64)),
        lengths=torch.from_numpy(lengths.astype(np.int64)),
    )
    return LabelledBatch(inputs, torch.from_numpy(starts), torch.from_numpy(ends))
