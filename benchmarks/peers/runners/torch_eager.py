"""transformers' BERT in torch eager, float32, as one would run it in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.hugging_face import INPUTS, load_bert
from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits
from model_store import ModelStore


class TorchRunner:
    """Runs a ``BertForQuestionAnswering``."""

    def __init__(self, network: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = network
        self.facts: dict[str, Any] = {"runtime": f"torch {torch.__version__}", "precision": "f32"}

    def warm_up(self, config: str) -> None:
        """Nothing of its own."""

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:  # noqa: ARG002 - one shape of model
        """Logits of each window."""
        return [self._logits(piece) for piece in pieces]

    def _logits(self, piece: Piece) -> Logits:
        rows = {name: torch.from_numpy(row) for name, row in zip(INPUTS, piece.rows(), strict=True)}
        found = self._network(**rows)
        real = piece.real_length
        return found.start_logits[0, :real].numpy(), found.end_logits[0, :real].numpy()


def create(settings: Mapping[str, Any]) -> TorchRunner:
    """Takes ``model`` (see `load_bert`), ``store``, ``spec``, ``threads``."""
    network = load_bert(settings["model"], ModelStore(Path(settings["store"])), settings["spec"])
    return TorchRunner(network, settings["threads"])
