"""ONNX Runtime on an exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits


class OnnxRunner:
    """Runs an ONNX file whose inputs are ids, attention mask and segments, in BERT's names."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._dtypes = {each.name: _dtype(each.type) for each in self._session.get_inputs()}
        self.facts: dict[str, Any] = {"runtime": f"onnxruntime {onnxruntime.__version__}"}

    def warm_up(self, config: str) -> None:
        """Nothing of its own."""

    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:  # noqa: ARG002 - one shape of model
        """Logits of each window."""
        return [self._logits(piece) for piece in pieces]

    def _logits(self, piece: Piece) -> Logits:
        ids, mask, segments = piece.rows()
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        start, end = self._session.run(
            ["start", "end"], {name: given[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}
        )
        return start[0, : piece.real_length], end[0, : piece.real_length]


def create(settings: Mapping[str, Any]) -> OnnxRunner:
    """Takes ``file`` and ``threads``."""
    return OnnxRunner(Path(settings["file"]), settings["threads"])


def _dtype(name: str) -> type[np.int64 | np.int32]:
    return np.int32 if "int32" in name else np.int64
