"""Seconds from nothing to an answer.  ``python -m benchmarks.first_answer``.

Clones the repository's committed state into a temporary folder, runs ``make serve`` there in an empty
environment (no package cache, no settings), asks a question as soon as the server is ready, and stops it.
Packages are downloaded: the index's speed is part of the figure.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import Document, finish, plain_errors, say
from benchmarks.server_process import BenchmarkError, ServerProcess, free_port

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "Who designed the lighthouse?"
CONTEXT = "The lighthouse on the northern cape was designed by Edith Lund and finished in 1911."
ANSWER = "Edith Lund"

_REACH = ("http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "requests_ca_bundle")


def empty_environment(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """PATH, a home of its own without caches, and how packages are reached from here (proxy, pip's index)."""
    reach = {name: value for name, value in environment.items() if name.lower() in _REACH or name.startswith("PIP_")}
    kept = {"PATH": environment.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8", **reach}
    kept.pop("PIP_CACHE_DIR", None)
    return kept


def measure(repository: str, limit_seconds: float) -> Document:
    """Clone, serve, ask.

    Raises:
        BenchmarkError: no clone, no server within the limit, or no answer.
    """
    with tempfile.TemporaryDirectory(prefix="leeway-first-answer-") as name:
        folder, home = Path(name, "clone"), Path(name, "home")
        home.mkdir()
        environment = empty_environment(os.environ, home)
        port = free_port()
        script = 'git clone --quiet "$1" "$2" && cd "$2" && exec make serve PORT="$3"'
        command = ["/bin/sh", "-c", script, "first-answer", repository, str(folder), str(port)]
        with ServerProcess(command, port, environment) as server:
            ready = server.wait_ready(2 * limit_seconds)
            say(f"ready after {ready:.1f} s")
            status, body = server.caller.ask(QUESTION, CONTEXT)
            seconds = server.seconds()
            server.stop_group()
    if status != 200:
        raise BenchmarkError(f"the first question got status {status}")
    return {
        "benchmark": "first_answer",
        "commit": _commit(repository),
        "ready_seconds": round(ready, 1),
        "first_answer_seconds": round(seconds, 1),
        "answer": body["answers"][0]["text"],
        "expected": ANSWER,
        "model": body["model"],
    }


def breaches(found: Document, limit_seconds: float) -> list[str]:
    """The limits that were broken."""
    broken = []
    if found["first_answer_seconds"] > limit_seconds:
        broken.append(f"first answer after {found['first_answer_seconds']} s, at most {limit_seconds:.0f}")
    if found["answer"] != found["expected"]:
        broken.append(f"the answer is {found['answer']!r}, not {found['expected']!r}")
    return broken


def _commit(repository: str) -> str:
    command = ["git", "ls-remote", repository, "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - git, on our own argument
    return done.stdout.split()[0] if done.stdout else ""


@plain_errors
def first_answer(
    repository: Annotated[str, typer.Option(help="What to clone: a folder or an address.")] = str(ROOT),
    max_seconds: Annotated[float, typer.Option(min=1, help="Limit from the start of the clone to the answer.")] = 300.0,
) -> None:
    """Measure a fresh clone's way to its first answer; the last line is one JSON document."""
    found = measure(repository, max_seconds)
    finish({**found, "broken": breaches(found, max_seconds)})


if __name__ == "__main__":
    typer.run(first_answer)
