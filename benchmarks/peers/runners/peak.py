"""A large int8 matrix product: how fast this processor multiplies bytes when nothing is in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits

SIDE = 2048

_NOTHING = np.zeros(0, dtype=np.float32)


class PeakRunner:
    """uint8 x int8 to uint8, `SIDE` in every dimension, by oneDNN, which OpenVINO and torch share."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(0)
        shape = (SIDE, SIDE)
        self._inputs = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        weights = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
        self._weights = torch.ops.onednn.qlinear_prepack(weights, None)
        self._scales = torch.full((SIDE,), 0.01)
        self._zeros = torch.zeros(SIDE, dtype=torch.int64)
        self.facts: dict[str, Any] = {"runtime": f"torch {torch.__version__}", "macs": SIDE**3}

    def warm_up(self, config: str) -> None:
        """Nothing of its own."""

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:  # noqa: ARG002 - always the same product
        """One product for a window, and no logits."""
        return [self._product() for _ in pieces]

    def _product(self) -> Logits:
        torch.ops.onednn.qlinear_pointwise(
            self._inputs, 0.02, 0, self._weights, self._scales, self._zeros, None, 0.05, 0, torch.uint8, "none", [], ""
        )
        return _NOTHING, _NOTHING


def create(settings: Mapping[str, Any]) -> PeakRunner:
    """Takes ``threads``."""
    return PeakRunner(settings["threads"])
