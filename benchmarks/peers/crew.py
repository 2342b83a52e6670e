"""The workers from the benchmark's side: started, asked one at a time, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.pieces import Piece
from benchmarks.server_process import BenchmarkError, memory_mb, without_settings
from server.engine.interface import WindowLogits

_ROOT = Path(__file__).resolve().parents[2]
_LOG_LINES = 8
_END_SECONDS = 30.0


class UnavailableError(BenchmarkError):
    """A system that this machine or environment does not have: it is left out."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one worker holds.

    Attributes:
        name: of the worker.
        settings: JSON object, see `worker`.
        python: interpreter of its environment; this one if not given.
    """

    name: str
    settings: Mapping[str, Any]
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a worker answered.

    Attributes:
        times_ns: int64 ``[questions]``.
        logits: of each question's windows; empty if not asked for.
    """

    times_ns: NDArray[np.int64]
    logits: list[list[WindowLogits]] = field(default_factory=list)


class Worker:
    """A context manager around one worker's process.

    Args:
        spec: what it holds.
        cores: that it runs on; its runtime gets a thread for each.

    Raises:
        UnavailableError: its runtime or engine is not there; the message says why.
        BenchmarkError: it ended at once.
    """

    def __init__(self, spec: WorkerSpec, cores: Sequence[int]) -> None:
        self.name = spec.name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        settings = {"threads": len(cores), "cores": list(cores), **spec.settings}
        environment = {**without_settings(), "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": str(len(cores))}
        command = [str(spec.python or sys.executable), "-m", "benchmarks.peers.worker", json.dumps(settings)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this project's own module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, cwd=_ROOT
            )
        except OSError as error:
            self._log.close()
            raise UnavailableError(f"cannot start {command[0]}: {error.strerror or error}") from error
        try:
            hello = self._receive()
            if "unavailable" in hello:
                raise UnavailableError(hello["unavailable"])
        except BenchmarkError:
            self.close()
            raise
        self.facts: dict[str, Any] = hello["ready"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self, config: str) -> None:
        """What the system does before it is ready for a length configuration."""
        self.facts = self._call({"op": "warm_up", "config": config})["facts"]

    def run(self, config: str, questions: Sequence[Sequence[Piece]], *, logits: bool = False) -> Answered:
        """Answer `questions`, one after the other.

        Raises:
            BenchmarkError: it refused, or is gone.
        """
        asked = [[piece.to_json() for piece in question] for question in questions]
        reply = self._call({"op": "run", "config": config, "questions": asked, "logits": logits})
        found = [
            [WindowLogits(np.asarray(start, np.float32), np.asarray(end, np.float32)) for start, end in question]
            for question in reply["logits"] or []
        ]
        return Answered(np.asarray(reply["ns"], dtype=np.int64), found)

    def memory_mb(self) -> float:
        """Resident memory now, MB of 10^6 bytes."""
        return memory_mb(self._process.pid)[0]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise BenchmarkError(f"the worker {self.name} is gone:\n{self._log_end()}") from error
        reply = self._receive()
        if "error" in reply:
            raise BenchmarkError(f"{self.name}: {reply['error']}")
        return reply

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the worker {self.name} ended:\n{self._log_end()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _log_end(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])


def own_cores() -> tuple[int, ...]:
    """Cores that this process may use, rising.

    Raises:
        BenchmarkError: the system does not say (no Linux).
    """
    if not hasattr(os, "sched_getaffinity"):
        raise BenchmarkError("this system cannot pin processes to cores; Linux can")
    return tuple(sorted(os.sched_getaffinity(0)))
