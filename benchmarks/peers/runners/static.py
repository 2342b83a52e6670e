"""OpenVINO int8 with one graph of a fixed shape per length bucket, and nothing in it that drops tokens.

The same int8 linear layers as the engine ``openvino`` builds.  No significance, no top-k, no gather, no scatter: what
the engine's one graph for all lengths and length configurations costs over this is the price of its freedom.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as op

from benchmarks.peers.pieces import Piece
from benchmarks.peers.weights import OURS, architecture_of, random_int8_tensors
from model_store import Architecture, ModelStore, Tensors
from server.engine import openvino_graph
from server.engine.interface import FloatArray
from server.engine.openvino import BUCKET_STEP
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

    def run(self, piece: Piece, config: str) -> tuple[FloatArray, FloatArray]:  # noqa: ARG002 - one shape of model
        """Logits of one window, padded to its bucket."""
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
        exact = multiplies_int8_exactly()
        graph = StaticGraph(self._architecture, self._tensors, integer_products=exact).of_length(size)
        return self._core.compile_model(graph, "CPU", self._options).create_infer_request()


class StaticGraph(openvino_graph._Builder):  # noqa: SLF001 - its int8 layers, so that both multiply the same
    """The encoder of the engine ``openvino`` without what drops tokens."""

    def of_length(self, size: int) -> ov.Model:
        """Inputs int32 ``token_ids [size]``, ``segment_start []``, ``real_length []``; outputs float32 ``[size]``."""
        self.token_ids = op.parameter([size], np.int32, name="token_ids")
        self.places = op.constant(np.arange(size, dtype=np.int32))
        real = op.less(self.places, self.real_length)
        tokens = openvino_graph._Tokens(self._embeddings(), self.places, real, real)  # noqa: SLF001 - see above
        for layer in range(self.architecture.layers):
            tokens = self._whole_layer(f"layers.{layer}", tokens)
        columns = op.split(self._head(tokens.hidden), op.constant(np.int64(1)), 2)
        results = []
        for name, column in zip(("start", "end"), columns.outputs(), strict=True):
            flat = op.squeeze(column, op.constant(np.array([1])))
            flat.output(0).set_names({name})
            results.append(op.result(flat, name=name))
        parameters = [self.token_ids, self.segment_start, self.real_length]
        for parameter in parameters:
            parameter.output(0).set_names({parameter.get_friendly_name()})
        return ov.Model(results, parameters, f"static_{size}")

    def _whole_layer(self, root: str, tokens: openvino_graph._Tokens) -> openvino_graph._Tokens:
        mixed, _ = self._attention(f"{root}.qkv", tokens)  # the significance is no output: it falls away
        attended = self._linear(mixed, f"{root}.attention_output")
        hidden = self._norm(op.add(tokens.hidden, attended), f"{root}.attention_norm")
        inner = op.gelu(self._linear(hidden, f"{root}.intermediate"), "erf")
        hidden = self._norm(op.add(hidden, self._linear(inner, f"{root}.output")), f"{root}.output_norm")
        return openvino_graph._Tokens(hidden, tokens.places, tokens.real, tokens.asking)  # noqa: SLF001 - see above


def create(settings: Mapping[str, Any]) -> StaticRunner:
    """Takes ``model`` (``ours`` or a shape, which gets random tensors), ``store``, ``spec``, ``threads``."""
    store, model = ModelStore(Path(settings["store"])), settings["model"]
    architecture = architecture_of(model, store, settings["spec"])
    tensors = store.load(settings["spec"]).load_tensors() if model == OURS else random_int8_tensors(architecture)
    return StaticRunner(architecture, tensors, settings["threads"])
