"""OpenVINO int8 with one graph of a fixed shape per length bucket, and nothing in it that drops tokens.

The engine ``openvino``'s own graph without dropping, its shapes fixed: what the engine costs over this is the price of
graphs that take any length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits
from benchmarks.peers.weights import OURS, architecture_of, random_int8_tensors
from model_store import Architecture, ModelStore, Tensors
from server.engine.openvino import BUCKET_STEP
from server.engine.openvino_graph import build_graph
from server.engine.processor import multiplies_int8_exactly


class StaticRunner:
    """Compiles a graph when its bucket is first asked for, and keeps it."""

    def __init__(self, architecture: Architecture, tensors: Tensors, threads: int) -> None:
        self._architecture = architecture
        self._tensors = tensors
        self._core = ov.Core()
        self._options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: dict[int, Any] = {}
        self.facts: dict[str, Any] = {"runtime": f"openvino {ov.__version__}", "precision": "int8+f32"}

    def warm_up(self, config: str) -> None:
        """Nothing: which buckets are needed is known when they are asked for."""

    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:  # noqa: ARG002 - one shape of model
        """Logits of each window, padded to its bucket."""
        return [self._logits(piece) for piece in pieces]

    def _logits(self, piece: Piece) -> Logits:
        size = min(-(-len(piece.token_ids) // BUCKET_STEP) * BUCKET_STEP, self._architecture.positions)
        if size not in self._requests:
            self._requests[size] = self._compiled(size)
        outputs = self._requests[size].infer(
            {
                "token_ids": piece.padded(size, 0).token_ids,
                "segment_start": np.asarray(piece.segment_start, dtype=np.int32),
                "real_length": np.asarray(piece.real_length, dtype=np.int32),
            },
            share_inputs=True,
            share_outputs=True,
        )
        start, end = outputs.values()
        return start[: piece.real_length].copy(), end[: piece.real_length].copy()

    def _compiled(self, size: int) -> Any:
        graph = static_graph(self._architecture, self._tensors, size)
        return self._core.compile_model(graph, "CPU", self._options).create_infer_request()


def static_graph(architecture: Architecture, tensors: Tensors, size: int) -> ov.Model:
    """The engine's graph without dropping, for windows of `size` tokens alone."""
    graph = build_graph(architecture, tensors, dropping=False, integer_products=multiplies_int8_exactly())
    graph.reshape({"token_ids": [size]})
    return graph


def create(settings: Mapping[str, Any]) -> StaticRunner:
    """Takes ``model`` (``ours`` or a shape, which gets random tensors), ``store``, ``spec``, ``threads``."""
    store, model = ModelStore(Path(settings["store"])), settings["model"]
    architecture = architecture_of(model, store, settings["spec"])
    tensors = store.load(settings["spec"]).load_tensors() if model == OURS else random_int8_tensors(architecture)
    return StaticRunner(architecture, tensors, settings["threads"])
