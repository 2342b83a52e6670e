"""Intel Extension for PyTorch: int8 linear layers, traced and frozen stages for a few numbers of rows."""

from __future__ import annotations

import ctypes
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model_store.length_config import MINIMUM_TOKENS, LengthConfiguration
from server.engine.checks import check_call
from server.engine.interface import (
    EngineInfo,
    EngineResult,
    EngineUnavailableError,
    FloatArray,
    IntArray,
    WindowLogits,
    WindowTokens,
)
from server.engine.ipex_graph import PADDING_BIAS, Embeddings, Stage
from server.engine.processor import multiplies_int8_exactly, processor_name

if TYPE_CHECKING:
    from model_store.artifact import Artifact

ROW_STEP = 16
"""Windows, and what a layer keeps of them, are padded to a multiple of this: each number of rows has its own traces."""

MOST_GRAPHS = 256
"""Traces kept at once; the least recently used go first.  The default model has 7 stages, 32 numbers of rows: 224."""

TORCH = "2.8"
"""IPEX 2.8.0, its last release, runs with this release of torch alone."""

_PACKAGE = "intel-extension-for-pytorch"
_INSTALL = "install it in an environment of its own with: pip install 'leeway-qa[ipex]'"
_WARM_UP_CALLS = 2  # the first call of a trace is watched, the second compiles what was seen

Graph = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class IpexEngine:
    """Runs windows one at a time on all threads.

    Args:
        artifact: of the quantization scheme ``int8``.
        threads: of each call; set for the whole process, as torch has no other way.

    Raises:
        EngineUnavailableError: IPEX or its release of torch is not installed, a processor without VNNI or AMX, or an
            artifact that is not int8.
    """

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        scheme = artifact.manifest.quantization.scheme
        if scheme != "int8":
            raise EngineUnavailableError(
                f"the engine ipex runs int8 artifacts; this one's quantization scheme is {scheme!r} "
                "(the engine reference runs it)"
            )
        if not multiplies_int8_exactly():
            raise EngineUnavailableError(
                "the engine ipex needs a processor with AVX512-VNNI, AVX-VNNI or AMX-INT8, as 8-bit products are not "
                "exact without; this one has none of them; the engine openvino runs here"
            )
        _load_extension()
        torch.set_num_threads(threads)
        self._architecture = artifact.manifest.architecture
        self._pad_id = artifact.manifest.tokenizer.pad_id
        self._max_length = artifact.manifest.reading.max_length
        tensors = artifact.load_tensors()
        self._embeddings = Embeddings(tensors)
        self._stages = [Stage(self._architecture, tensors, number) for number in range(self._architecture.layers + 1)]
        self._graphs: OrderedDict[tuple[int, int], Graph] = OrderedDict()
        self.info = EngineInfo("ipex", processor_name(), threads, "int8+f32", length_step=ROW_STEP)

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Trace every stage for every number of rows that windows up to the reading default's longest can bring it."""
        longest = min(self._max_length, self._architecture.positions)
        wanted = {
            (rows, number)
            for configuration in configurations
            for length in range(MINIMUM_TOKENS, longest + 1)
            for number, rows in enumerate(self._rows(length, configuration))
        }
        for rows, number in sorted(wanted, reverse=True):  # what the largest frees serves the others
            self._graph(number, rows)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows`; raises as the interface says."""
        check_call(self._architecture, windows, configuration)
        began = time.monotonic_ns()
        with torch.inference_mode():
            logits = tuple(self._infer(window, configuration) for window in windows)
        return EngineResult(logits, time.monotonic_ns() - began)

    def close(self) -> None:
        """Free traces and weights."""
        self._stages = []
        self._graphs.clear()

    def _infer(self, window: WindowTokens, configuration: LengthConfiguration) -> WindowLogits:
        """Tokens come first among the rows, in reading order; padding follows."""
        if not self._stages:
            raise ValueError("the engine is closed")
        length = len(window.token_ids)
        size, *sizes = self._rows(length, configuration)
        ids = np.full(size, self._pad_id, dtype=np.int32)
        ids[:length] = window.token_ids
        rows, places = self._embeddings(ids, window.segment_start), np.arange(length, dtype=np.int32)
        restored = np.empty((length, 2), dtype=np.float32)
        for number, (kept, following) in enumerate(zip(configuration.kept_tokens(length), sizes, strict=True)):
            logits, rows, scores = self._call(number, rows, places, window.segment_start)
            if kept < len(places):
                restored[places] = logits[: len(places)].numpy()
                chosen = _most_significant(scores[: len(places)].numpy(), kept)
                places = places[chosen]
                padded = np.zeros(following, dtype=np.int32)
                padded[:kept] = chosen
                rows = rows[torch.from_numpy(padded)]
        (logits,) = self._call(len(sizes), rows, places, window.segment_start)
        restored[places] = logits[: len(places)].numpy()
        return WindowLogits(restored[:, 0].copy(), restored[:, 1].copy())

    def _call(self, number: int, rows: Tensor, places: IntArray, segment_start: int) -> tuple[Tensor, ...]:
        bias = np.full(len(rows), PADDING_BIAS, dtype=np.float32)
        bias[: len(places)] = 0.0
        asking = np.zeros(len(rows), dtype=np.float32)
        asking[: len(places)] = self._asking(places, segment_start)
        return self._graph(number, len(rows))(rows, torch.from_numpy(bias), torch.from_numpy(asking))

    def _asking(self, places: IntArray, segment_start: int) -> FloatArray:
        """1 for the tokens whose attention, or mean state, makes others significant, else 0."""
        if self._architecture.significance == "all":
            return np.ones(len(places), dtype=np.float32)
        return ((places > 0) & (places < segment_start - 1)).astype(np.float32)

    def _rows(self, length: int, configuration: LengthConfiguration) -> Iterator[int]:
        """Rows of each stage for a window of `length` tokens."""
        kept, rows = length, _rounded_up(length, self._architecture.positions)
        yield rows
        for count in configuration.kept_tokens(length):
            if count < kept:  # else padding stays, masked: nothing is cut
                kept, rows = count, _rounded_up(count, rows)
            yield rows

    def _graph(self, number: int, rows: int) -> Graph:
        """The trace of a stage for that many rows, made and warmed up if it is not there."""
        key = (number, rows)
        if key not in self._graphs:
            if len(self._graphs) >= MOST_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[key] = _traced(self._stages[number], rows, self._architecture.hidden)
        self._graphs.move_to_end(key)
        return self._graphs[key]


def _most_significant(scores: FloatArray, kept: int) -> IntArray:
    """Indices of the `kept` highest scores in rising order; between equals the earlier one is taken."""
    return np.sort(np.argsort(-scores, kind="stable")[:kept]).astype(np.int32)


def _rounded_up(count: int, most: int) -> int:
    return min(-(-count // ROW_STEP) * ROW_STEP, most)


@torch.inference_mode()
def _traced(stage: Stage, rows: int, hidden: int) -> Graph:
    """`stage` traced for that many rows, frozen and warmed up."""
    example = (torch.zeros(rows, hidden), torch.zeros(rows), torch.ones(rows))
    traced = torch.jit.trace(stage.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    graph: Graph = torch.jit.freeze(traced)
    for _ in range(_WARM_UP_CALLS):
        graph(*example)
    _give_back_memory()
    return graph


def _give_back_memory() -> None:
    """Tracing frees more than it keeps, and glibc holds on to it: gigabytes after a warm-up."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _load_extension() -> None:
    """Import IPEX, which hooks itself into torch; beside another torch it would end the process, hence the look before.

    Raises:
        EngineUnavailableError: it is not there, or not for this torch.
    """
    try:
        found = version(_PACKAGE)
    except PackageNotFoundError as error:
        raise EngineUnavailableError(f"the engine ipex needs the package {_PACKAGE!r}; {_INSTALL}") from error
    if not torch.__version__.startswith(f"{TORCH}."):
        raise EngineUnavailableError(
            f"the engine ipex needs torch {TORCH}, which {_PACKAGE} {found} was built for; this Python has torch "
            f"{torch.__version__}; {_INSTALL}"
        )
    import intel_extension_for_pytorch  # noqa: F401
