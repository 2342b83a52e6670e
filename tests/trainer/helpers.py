"""Networks, batches and features of a few numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store import Architecture, LengthConfiguration, Tensors
from reading import SquadDataset, load_squad
from trainer.features import Features
from trainer.network import Batch, LengthAdaptiveMiniLM
from trainer.quantize import ActivationRange, input_grids, int8_tensors

EXCERPT = Path(__file__).parent.parent / "data" / "squad-excerpt.json"
SMALL = Architecture(layers=3, hidden=16, heads=4, intermediate=32, vocabulary=50, positions=64)


@cache
def excerpt() -> SquadDataset:
    return load_squad(EXCERPT)


def random_network(architecture: Architecture = SMALL, seed: int = 0, scale: float = 0.4) -> LengthAdaptiveMiniLM:
    """Normal weights, wide enough that attention prefers some tokens; norms near 1, no bias at 0."""
    network = LengthAdaptiveMiniLM(architecture).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            centre = 1.0 if "norm.weight" in name else 0.0
            spread = scale if parameter.ndim > 1 else 0.1
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    return network


def random_batch(
    lengths: Sequence[int], architecture: Architecture = SMALL, seed: int = 0, width: int | None = None
) -> Batch:
    """Windows of these lengths, padded with id 0; a fifth of each is segment 0."""
    generator = torch.Generator().manual_seed(seed)
    token_ids = torch.zeros(len(lengths), width or max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        token_ids[row, :length] = torch.randint(1, architecture.vocabulary, (length,), generator=generator)
    return Batch(token_ids, torch.tensor([1 + length // 5 for length in lengths]), torch.tensor(list(lengths)))


def one_of(batch: Batch, row: int) -> Batch:
    """A sample alone, without padding."""
    length = int(batch.lengths[row])
    return Batch(batch.token_ids[row : row + 1, :length], batch.segment_starts[row : row + 1], batch.lengths[row, None])


def kept_of(configuration: LengthConfiguration, batch: Batch) -> Tensor:
    """int64 ``[layers, b]``."""
    return torch.tensor([configuration.kept_tokens(int(length)) for length in batch.lengths]).T


def quantized(network: LengthAdaptiveMiniLM, ranges: dict[str, ActivationRange], smoothing: float = 0.0) -> Tensors:
    """The int8 artifact's tensors."""
    return int8_tensors(network, input_grids(network, ranges, smoothing))


def random_features(count: int = 40, architecture: Architecture = SMALL, seed: int = 0) -> Features:
    """Windows whose answer is the place of their only token 7: a thing that a tiny network can learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(8, 25, count)
    windows, places = [], []
    for length in lengths:
        ids = rng.integers(8, architecture.vocabulary, length).astype(np.int32)
        place = int(rng.integers(3, length))
        ids[0], ids[place] = 2, 7
        windows.append(ids)
        places.append(place)
    labels = np.asarray(places, dtype=np.int32)
    return Features(
        token_ids=np.concatenate(windows),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        segment_starts=np.full(count, 2, dtype=np.int32),
        label_starts=labels,
        label_ends=labels.copy(),
        label_offsets=np.arange(count + 1, dtype=np.int64),
        questions=np.arange(count, dtype=np.int32),
    )
