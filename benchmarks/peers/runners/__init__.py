"""What a worker runs.  Each runtime is imported inside its own module, and only by the worker that needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from benchmarks.peers.pieces import Piece
from server.engine.interface import FloatArray

Logits = tuple[FloatArray, FloatArray]
"""Start and end logits of a window's real tokens, float32 ``[real_length]`` each."""

RUNNERS = ("torch_eager", "onnx", "static", "leeway", "peak", "fake")


class Runner(Protocol):
    """One model in one runtime."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the report says of it; JSON values."""

    def warm_up(self, config: str) -> None:
        """What the system itself does before it is ready, if anything."""

    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:
        """Logits of all windows of one question, one window after the other, under a length configuration."""


def create_runner(settings: Mapping[str, Any]) -> Runner:
    """The runner that `settings` describe: ``runner``, one of `RUNNERS`, ``threads``, and what that one takes.

    Raises:
        ImportError: its runtime is not installed.
        EngineUnavailableError: an engine that this environment or machine does not have.
        ValueError: no such runner.
    """
    name = settings["runner"]
    if name not in RUNNERS:
        raise ValueError(f"there is no runner {name!r}; there are {', '.join(RUNNERS)}")
    module = importlib.import_module(f"benchmarks.peers.runners.{name}")
    return cast(Callable[[Mapping[str, Any]], Runner], module.create)(settings)
