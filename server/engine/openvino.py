"""OpenVINO: int8 linear layers in two compiled dynamic graphs, one that drops tokens and one that keeps them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from model_store.length_config import MINIMUM_TOKENS, LengthConfiguration
from server.engine.checks import check_call
from server.engine.interface import (
    EngineInfo,
    EngineResult,
    EngineUnavailableError,
    WindowLogits,
    WindowTokens,
)
from server.engine.openvino_graph import build_graph
from server.engine.probe import ProbeWindow
from server.engine.processor import multiplies_int8_exactly

if TYPE_CHECKING:
    from model_store.artifact import Artifact

BUCKET_STEP = 16
"""Windows are padded to a multiple of this: the runtime makes kernels per shape, so shapes must be few."""

KEPT_STEP = 8
"""What a layer keeps of a window is padded to a multiple of this, for the same reason."""

_WARM_UP_ROUNDS = 2  # the first call of a shape makes its kernels, the second its memory


class OpenVinoEngine:
    """Runs windows one at a time on all threads, which is the fastest arrangement measured for latency.

    Args:
        artifact: of any quantization scheme; ``int8`` is what this engine is for.
        threads: of each call.
        precision: of everything but the linear layers; ``auto`` takes f32.  bf16 takes about 7% less time, at the
            same held-out F1 (trainer/LOG.md); its parity with the reference was not yet shown on enough questions.

    Raises:
        EngineUnavailableError: a precision that this processor lacks.
    """

    def __init__(self, artifact: Artifact, *, threads: int, precision: str = "auto") -> None:
        self._architecture = artifact.manifest.architecture
        self._pad_id = artifact.manifest.tokenizer.pad_id
        self._max_length = artifact.manifest.reading.max_length
        core = ov.Core()
        exact = multiplies_int8_exactly()
        rest = _precision(core, precision)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": rest,
            # pinning to cores is the operator's choice (affinity, cpuset), and on by default it defies both
            "ENABLE_CPU_PINNING": False,
        }
        tensors = artifact.load_tensors()
        self._requests: dict[bool, ov.InferRequest] = {}
        """By whether tokens are dropped."""
        for dropping in (False, True):
            graph = build_graph(self._architecture, tensors, dropping=dropping, integer_products=exact)
            self._requests[dropping] = core.compile_model(graph, "CPU", options).create_infer_request()
        device = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
        int8 = f"int8+{rest}" if exact else f"int8 in {rest}"
        arithmetic = int8 if artifact.manifest.quantization.scheme == "int8" else rest
        self.info = EngineInfo("openvino", device, threads, arithmetic, length_step=BUCKET_STEP)

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Give every layer every number of rows that windows up to the reading default's longest can bring it."""
        met: set[tuple[bool, int, int]] = set()  # each graph has kernels of its own
        for configuration in configurations:
            for length in range(MINIMUM_TOKENS, min(self._max_length, self._architecture.positions) + 1):
                rows = self._rows(length, configuration)
                shapes = {(configuration.drops_nothing, layer, count) for layer, count in enumerate(rows)}
                if shapes <= met:
                    continue
                met |= shapes
                ids = np.full(length, self._pad_id, dtype=np.int32)
                for _ in range(_WARM_UP_ROUNDS):
                    self._infer(ProbeWindow(ids, 1), configuration)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows`; raises as the interface says."""
        check_call(self._architecture, windows, configuration)
        began = time.monotonic_ns()
        logits = tuple(self._infer(window, configuration) for window in windows)
        return EngineResult(logits, time.monotonic_ns() - began)

    def close(self) -> None:
        """Free graph and weights."""
        self._requests = {}

    def _rows(self, length: int, configuration: LengthConfiguration) -> tuple[int, ...]:
        """Rows that enter the first layer, then those that each layer hands on, for a window of `length` tokens."""
        size = _rounded_up(length, BUCKET_STEP, self._architecture.positions)
        if configuration.drops_nothing:
            return (size,) * (self._architecture.layers + 1)  # padding stays, masked: one shape per bucket
        return (size, *(_rounded_up(count, KEPT_STEP, size) for count in configuration.kept_tokens(length)))

    def _infer(self, window: WindowTokens, configuration: LengthConfiguration) -> WindowLogits:
        request = self._requests.get(not configuration.drops_nothing)
        if request is None:
            raise ValueError("the engine is closed")
        length = len(window.token_ids)
        size, *rows = self._rows(length, configuration)
        token_ids = np.full(size, self._pad_id, dtype=np.int32)
        token_ids[:length] = window.token_ids
        inputs = {
            "token_ids": token_ids,
            "segment_start": np.asarray(window.segment_start, dtype=np.int32),
            "real_length": np.asarray(length, dtype=np.int32),
        }
        if not configuration.drops_nothing:
            inputs["kept"] = np.asarray(configuration.kept_tokens(length), dtype=np.int32)
            inputs["rows"] = np.asarray(rows, dtype=np.int32)
        start, end = request.infer(inputs, share_inputs=True, share_outputs=True).values()
        return WindowLogits(start[:length].copy(), end[:length].copy())


def _rounded_up(count: int, step: int, most: int) -> int:
    return min(-(-count // step) * step, most)


def _precision(core: ov.Core, wanted: str) -> str:
    """``bf16`` or ``f32``."""
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "bf16" and not able:
        raise EngineUnavailableError(
            "precision bf16 needs a processor with AVX512-BF16 or AMX (or SVE bf16 on ARM), which this one lacks; "
            "use precision auto or f32"
        )
    return "bf16" if wanted == "bf16" else "f32"
