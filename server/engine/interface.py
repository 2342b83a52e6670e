"""The seam between server and model: the whole engine interface on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_store.length_config import LengthConfiguration

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]


class WindowTokens(Protocol):
    """What an engine reads of a window (`reading.windows.Window` fits)."""

    @property
    def token_ids(self) -> IntArray:
        """int32 ``[n]``, special tokens included, unpadded."""

    @property
    def segment_start(self) -> int:
        """Index of the first token of segment 1 (the context)."""


@dataclass(frozen=True, slots=True)
class WindowLogits:
    """Logits of one window, one per real token, in window order.

    Attributes:
        start: float32 ``[n]``.
        end: float32 ``[n]``.
    """

    start: FloatArray
    end: FloatArray


@dataclass(frozen=True, slots=True)
class EngineResult:
    """Logits of all windows of one call and the time that it took.

    Attributes:
        logits: one per window, in the order of the call.
        inference_ns: wall time inside the engine, integer nanoseconds of the monotonic clock.
    """

    logits: tuple[WindowLogits, ...]
    inference_ns: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What `/info` and the metrics say of an engine.

    Attributes:
        name: ``openvino``, ``ipex``, ``reference``, ``fake``.
        device: the processor as the engine's runtime names it.
        threads: threads that one call uses.
        precision: arithmetic of the linear layers and of the rest, for example ``int8+bf16``.
        length_step: windows are padded to a multiple of this many tokens: what lies between two takes the
            time of the longer.
    """

    name: str
    device: str
    threads: int
    precision: str
    length_step: int = 1


class Engine(Protocol):
    """Runs one model.  Not thread-safe: one call at a time, from any thread.

    Engines are made by `server.engine.create_engine`; making one loads the model.
    """

    @property
    def info(self) -> EngineInfo:
        """Name, device, threads, precision."""

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Meet every length bucket of every configuration once, so that no request pays for it."""

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows` under `configuration`.

        Raises:
            ValueError: no window, a window longer than the model's positions, a token id outside the
                vocabulary, or a configuration with another number of layers than the model's, or one that
                skims where the model has no skimmer.
        """

    def close(self) -> None:
        """Free the model; a second call does nothing."""


class EngineUnavailableError(Exception):
    """A named engine or precision that this machine cannot run; the message says what is missing."""
