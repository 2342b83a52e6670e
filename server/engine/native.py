"""Kernels of our own (``kernels/``): 8-bit products with everything between them fused, one window at a time.

An artifact's integers, scales and zero points are packed once, when the engine is made; the kernels need no graph, no
shapes known beforehand and no warm-up, so neither windows nor kept tokens are padded or rounded.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from ctypes import POINTER, byref, c_int, c_void_p, cast, sizeof
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration
from server.engine import NATIVE_LIBRARIES
from server.engine.checks import check_call
from server.engine.interface import EngineInfo, EngineResult, EngineUnavailableError, WindowLogits, WindowTokens
from server.engine.native_tensors import Array, LayerStructure, ModelStructure, PackedTensors, Packing
from server.engine.probe import ProbeWindow
from server.engine.processor import lacking, processor_name

if TYPE_CHECKING:
    from model_store.artifact import Artifact

NEEDED = {
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"),
    "avx2": ("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"),
}
"""What the kernels of each level are compiled for, as ``/proc/cpuinfo`` names it; the better level first."""

BFLOAT16 = "avx512_bf16"

_VERSION = 4
_SEGMENTS = 2  # question and context
_WIDEST_HEAD = 64  # columns
_MOST_POSITIONS = 1 << 16  # pieces of a step are counted in 16 bits
_MOST_INPUTS = 1 << 16  # sums of 8-bit products stay in 32 bits


class NativeEngine:
    """Runs windows one after the other, each on all threads.

    Args:
        artifact: of the scheme ``int8``.
        threads: of each call; all but the caller's are started here and sleep between calls.
        precision: of attention's products, whose sums and all else are float32; ``auto`` takes f32.

    Raises:
        EngineUnavailableError: the library was not built, the processor lacks an instruction, threads or memory
            ran out, or the artifact is none that the kernels know.
    """

    def __init__(self, artifact: Artifact, *, threads: int, precision: str = "auto") -> None:
        architecture = artifact.manifest.architecture
        if reason := obstacle():
            raise EngineUnavailableError(f"{reason}; use openvino")
        if artifact.manifest.quantization.scheme != "int8":
            raise EngineUnavailableError("the engine native runs int8 artifacts only; use openvino or reference")
        if reason := _unfit(architecture):
            raise EngineUnavailableError(f"the engine native cannot run this model: {reason}; use openvino")
        level = _level()
        if precision == "bf16" and (level != "avx512" or lacking((BFLOAT16,))):
            raise EngineUnavailableError(
                "precision bf16 needs a processor with AVX512-BF16, which this one lacks; use precision auto or f32"
            )
        rest = "bf16" if precision == "bf16" else "f32"
        self._one_at_a_time = threading.Lock()  # buffers are shared by all calls, and a call lets other threads run
        self._library = _loaded(NATIVE_LIBRARIES[level])
        self._architecture = architecture
        packing = Packing(self._library.leeway_native_panel(), self._library.leeway_native_side_by_side())
        self._packed = PackedTensors(architecture, artifact.load_tensors(), packing)
        self._encoder = self._library.leeway_native_create(byref(self._packed.model), threads, rest == "bf16")
        if not self._encoder:
            raise EngineUnavailableError("the engine native found no memory for its buffers")
        got = self._library.leeway_native_threads(self._encoder)
        if got != threads:
            self.close()
            raise EngineUnavailableError(f"the engine native could start {got} of {threads} threads")
        products = "int8" if level == "avx512" else "int8 in int16"
        self.info = EngineInfo("native", processor_name(), threads, f"{products}+{rest}")

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Touch all memory once."""
        longest = ProbeWindow(np.zeros(self._architecture.positions, dtype=np.int32), 1)
        for configuration in configurations[:1]:
            self.run([longest], configuration)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows`; raises as the interface says."""
        check_call(self._architecture, windows, configuration)
        with self._one_at_a_time:
            if not self._encoder:
                raise ValueError("the engine is closed")
            began = time.monotonic_ns()
            logits = tuple(self._infer(window, configuration) for window in windows)
            return EngineResult(logits, time.monotonic_ns() - began)

    def close(self) -> None:
        """End the threads, free buffers and weights; waits for a call that runs."""
        with self._one_at_a_time:
            encoder, self._encoder = self._encoder, None
            if encoder:
                self._library.leeway_native_destroy(encoder)
                del self._packed

    def __del__(self) -> None:
        if getattr(self, "_encoder", None):
            self.close()

    def _infer(self, window: WindowTokens, configuration: LengthConfiguration) -> WindowLogits:
        count = len(window.token_ids)
        ids = np.ascontiguousarray(window.token_ids, dtype=np.int32)
        kept = np.asarray(configuration.kept_tokens(count), dtype=np.int32)
        logits = np.empty((2, count), dtype=np.float32)
        start, end = logits
        self._library.leeway_native_run(
            self._encoder, _at(ids), count, window.segment_start, _at(kept), _at(start), _at(end)
        )
        return WindowLogits(start, end)


def obstacle() -> str:
    """Why this machine cannot run the engine; empty if it can."""
    able = _levels()
    if not able:
        *_, least = NEEDED.values()
        return f"the engine native needs a processor with {', '.join(lacking(least))}"
    if not _level():
        missing = NATIVE_LIBRARIES[able[0]].name
        return f"the engine native was not built: there is no {missing} (server/engine/kernels/README.md)"
    return ""


def usable_library() -> ctypes.CDLL | None:
    """The library, which holds more than this engine; None where this machine cannot run it."""
    try:
        return None if obstacle() else _loaded(NATIVE_LIBRARIES[_level()])
    except EngineUnavailableError:
        return None


def _levels() -> list[str]:
    """The levels of instructions that the processor has, the best first."""
    return [level for level, flags in NEEDED.items() if not lacking(flags)]


def _level() -> str:
    """The best of them that there is a library of; empty if there is none."""
    return next((level for level in _levels() if NATIVE_LIBRARIES[level].exists()), "")


def _loaded(path: Path) -> ctypes.CDLL:
    """The library, checked against this module.

    Raises:
        EngineUnavailableError: it cannot be loaded, or is another version's.
    """
    try:
        library = ctypes.CDLL(str(path))
        version = library.leeway_native_version()
        sizes = (library.leeway_native_model_bytes(), library.leeway_native_layer_bytes())
    except (OSError, AttributeError) as error:
        raise EngineUnavailableError(f"the engine native cannot be loaded: {error}") from error
    if version != _VERSION or sizes != (sizeof(ModelStructure), sizeof(LayerStructure)):
        raise EngineUnavailableError(f"{path.name} is of another version than this module; install the package again")
    library.leeway_native_create.restype = c_void_p
    library.leeway_native_create.argtypes = (POINTER(ModelStructure), c_int, c_int)
    library.leeway_native_threads.argtypes = (c_void_p,)
    library.leeway_native_destroy.restype = None
    library.leeway_native_destroy.argtypes = (c_void_p,)
    library.leeway_native_run.restype = None
    library.leeway_native_run.argtypes = (c_void_p, c_void_p, c_int, c_int, c_void_p, c_void_p, c_void_p)
    return library


def _unfit(architecture: Architecture) -> str:
    """What of a model the kernels cannot do; empty if there is nothing."""
    if architecture.segments < _SEGMENTS:
        return f"{architecture.segments} segment, at least {_SEGMENTS}"
    if architecture.head_size > _WIDEST_HEAD:
        return f"heads of {architecture.head_size} columns, at most {_WIDEST_HEAD}"
    if architecture.positions > _MOST_POSITIONS:
        return f"{architecture.positions} positions, at most {_MOST_POSITIONS}"
    inputs = max(architecture.hidden, architecture.intermediate)
    return f"layers of {inputs} inputs, at most {_MOST_INPUTS}" if inputs > _MOST_INPUTS else ""


def _at(array: Array) -> c_void_p:
    return cast(array.ctypes.data, c_void_p)
