"""The real process, as an operator starts and stops it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.model_store.tiny_artifact import publish_tiny

CONTEXT = "The old tower was built by the king in 1900."
PATIENCE_SECONDS = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "store")
    return tmp_path / "store"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def leeway_serve(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The process; killed if it is still there at the end."""
    command = [sys.executable, "-c", "from server.cli import main; main()", "serve", "--engine", "fake", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEEWAY_")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_ready(process: subprocess.Popen[str], client: httpx2.Client) -> None:
    """Until the server is ready, its process alive all the time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)  # another process starts: there is no event to wait for
    pytest.fail("the server did not become ready")


def test_serve_answers_and_ends_well_on_sigterm(store: Path) -> None:
    port = free_port()
    with leeway_serve("--port", str(port), "--store", str(store), "--model", "tiny", "--log-format", "json") as process:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            wait_ready(process, client)
            body = client.post("/qa", json={"question": "Who built the tower?", "context": CONTEXT}).json()
            answer = body["answers"][0]
            assert CONTEXT[answer["start"] : answer["end"]] == answer["text"]
            assert client.get("/info").json()["model"]["version"] == "1"
            too_large = client.post("/qa", content=b" " * 10_000_000, headers={"Content-Type": "application/json"})
            assert too_large.status_code == 413
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, log
        assert "Traceback" not in log


def test_serve_ends_with_a_reason_when_the_model_cannot_be_loaded(store: Path) -> None:
    with leeway_serve("--port", str(free_port()), "--store", str(store), "--model", "nobody") as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert "nobody" in log
        assert "Traceback" not in log


def test_serve_ends_with_a_reason_when_the_port_is_taken(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with leeway_serve("--port", port, "--store", str(store), "--model", "tiny") as process:
            _, log = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 1
            assert "address already in use" in log
