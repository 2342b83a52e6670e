"""A server as its operator runs it: a process, a port on the loopback address, HTTP with keep-alive."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"

_POLL_SECONDS = 0.02
_STOP_SECONDS = 30.0
_LOG_LINES = 20


class BenchmarkError(Exception):
    """A measurement that could not be made; the message says why."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def leeway(*arguments: str) -> list[str]:
    """Command line of the ``leeway`` that is installed beside this Python."""
    return [str(Path(sys.executable).with_name("leeway")), *arguments]


def leeway_serve(port: int, *options: str) -> list[str]:
    """Command line of a server on `port` of the loopback address."""
    return leeway("serve", "--host", HOST, "--port", str(port), *options)


def without_settings() -> dict[str, str]:
    """The environment of this process without settings of Leeway."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEEWAY_")}


class Caller:
    """One connection to a server on the loopback address, kept alive between requests."""

    def __init__(self, port: int, timeout_seconds: float = 120.0) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)

    def status(self, path: str) -> int:
        """Status of ``GET path``; 0 if there was no response."""
        return self._send("GET", path, None)[0]

    def ask(self, question: str, context: str) -> tuple[int, dict[str, Any]]:
        """Status and parsed body of ``POST /qa``; 0 and nothing if there was no response."""
        status, raw = self._send("POST", "/qa", json.dumps({"question": question, "context": context}).encode())
        return status, json.loads(raw) if status == 200 else {}

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, b""


class ServerProcess:
    """A context manager that starts a server in a process group of its own and leaves none of it behind.

    Args:
        command: starts a server that listens on `port`.
        port: on the loopback address.
        environment: of the process; this process's own, without settings of Leeway, if not given.
        folder: to start it in; this process's own if not given.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.caller = Caller(port)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._began_ns = time.monotonic_ns()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this project's own
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=without_settings() if environment is None else environment,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise BenchmarkError(f"cannot start {command[0]}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.caller.close()
        self._signal_group(signal.SIGKILL)  # the group may outlive the process that `stop` waited for
        self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        """Id of the process started."""
        return self._process.pid

    def wait_ready(self, limit_seconds: float) -> float:
        """Seconds from the start of the process until ``/health/ready`` answered 200.

        Raises:
            BenchmarkError: the process ended, or the limit has passed; with the end of its log.
        """
        while self.seconds() < limit_seconds:
            if self._process.poll() is not None:
                raise BenchmarkError(f"the server ended with status {self._process.returncode}:\n{self.log_end()}")
            if self.caller.status("/health/ready") == 200:
                return self.seconds()
            time.sleep(_POLL_SECONDS)
        raise BenchmarkError(f"not ready after {limit_seconds:.0f} s:\n{self.log_end()}")

    def seconds(self) -> float:
        """Since the process was started."""
        return (time.monotonic_ns() - self._began_ns) / 1e9

    def stop(self) -> int:
        """Send SIGTERM to the process and wait for its exit status.

        Raises:
            BenchmarkError: it does not end.
        """
        self.caller.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"still there {_STOP_SECONDS:.0f} s after SIGTERM:\n{self.log_end()}") from None

    def stop_group(self) -> None:
        """Send SIGTERM to the process and its children and wait for it, whatever its exit status.

        Raises:
            BenchmarkError: it does not end.
        """
        self._signal_group(signal.SIGTERM)
        self.stop()

    def log_end(self) -> str:
        """Last lines that the process wrote."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def memory_mb(pid: int, proc: Path = Path("/proc")) -> tuple[float, float]:
    """Resident memory of a process now, and its peak so far, in MB of 10^6 bytes.

    Raises:
        BenchmarkError: there is no such process, or no Linux ``/proc``.
    """
    try:
        lines = (proc / str(pid) / "status").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        resident, peak = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"cannot read the memory of process {pid} (needs Linux, a live process)") from error
    return resident, peak
