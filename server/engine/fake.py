"""A deterministic engine without weights, for tests and for measuring everything around a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration
from server.engine.checks import check_call
from server.engine.interface import EngineInfo, EngineResult, FloatArray, IntArray, WindowLogits, WindowTokens

_OUTSIDE = np.float32(-10.0)


class FakeEngine:
    """Logits are a hash of each token id, in [0, 8); tokens outside the context and those of the question get -10.

    Attributes:
        calls: calls of `run` that passed the checks, waiting ones included.
        windows_run: windows of the calls that are done.
        entered: set as soon as a call is inside.
    """

    def __init__(  # noqa: PLR0913 - what tests inject, each by name
        self,
        architecture: Architecture,
        *,
        threads: int = 1,
        service_ns: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        gate: threading.Event | None = None,
    ) -> None:
        """Make a fake.

        Args:
            architecture: of the model that it stands for; layers, vocabulary and positions are checked.
            threads: what `info` says.
            service_ns: time that each window takes, slept with `sleep`.
            sleep: takes seconds.
            clock_ns: monotonic.
            gate: if given, every call waits until it is set.
        """
        self._architecture = architecture
        self._service_ns = service_ns
        self._sleep = sleep
        self._clock_ns = clock_ns
        self._gate = gate
        self._info = EngineInfo("fake", "none", threads, "none")
        self.calls = 0
        self.windows_run = 0
        self.warmed_up: tuple[str, ...] = ()
        self.closed = False
        self.entered = threading.Event()

    @property
    def info(self) -> EngineInfo:
        """Name, device, threads, precision."""
        return self._info

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Remember the configurations."""
        self.warmed_up = tuple(configuration.id for configuration in configurations)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Hashes as logits; raises as the interface says."""
        check_call(self._architecture, windows, configuration)
        start_ns = self._clock_ns()
        self.calls += 1
        self.entered.set()
        if self._gate is not None:
            self._gate.wait()
        if self._service_ns:
            self._sleep(self._service_ns * len(windows) / 1e9)
        logits = tuple(_logits(window) for window in windows)
        self.windows_run += len(windows)
        return EngineResult(logits, self._clock_ns() - start_ns)

    def close(self) -> None:
        """Nothing to free."""
        self.closed = True


def _logits(window: WindowTokens) -> WindowLogits:
    ids = window.token_ids
    outside = np.isin(ids, ids[: window.segment_start])  # [CLS], question, [SEP], wherever they are
    outside[: window.segment_start] = True
    return WindowLogits(_hashed(ids, 2654435761, outside), _hashed(ids, 2246822519, outside))


def _hashed(ids: IntArray, factor: int, outside: NDArray[np.bool_]) -> FloatArray:
    """Multiplicative hash (Knuth, The Art of Computer Programming 3, section 6.4) of ids, float32 in [0, 8)."""
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(factor)
    values = ((mixed >> np.uint64(8)) & np.uint64(0xFFFF)).astype(np.float32) / np.float32(8192.0)
    values[outside] = _OUTSIDE
    return values
