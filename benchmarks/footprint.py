"""Start-up time and memory of the real server.  ``python -m benchmarks.footprint --data F``.

Starts ``leeway serve`` on a free loopback port, asks it questions about texts of mixed lengths over one
kept-alive connection, reads its memory from ``/proc`` (Linux), and stops it with SIGTERM.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.report import Document, check_data, finish, plain_errors, say
from benchmarks.server_process import Caller, ServerProcess, free_port, leeway_serve, memory_mb
from benchmarks.trend import GROWTH_MB, Trend, last_half_trend
from benchmarks.workload import Asked, mixed_lengths
from reading import SquadDataset, load_squad
from server.settings import packaged_store

SAMPLE_EVERY = 50
"""Requests between two readings of the memory."""

_GIVE_UP_SECONDS = 120.0
_SAY_EVERY = 500


@dataclass(frozen=True, slots=True)
class FootprintOptions:
    """What is measured, and what is asked of it.

    Attributes:
        model: NAME or NAME@VERSION.
        store: where it is.
        requests: asked one after the other.
        seed: of the questions and their lengths.
        threads: of one inference; 0 takes what the server may use.
        max_ready_seconds: from the start of the process.
        max_rss_mb: of every reading from ready on, MB of 10^6 bytes.
    """

    model: str = "default"
    store: Path = Path()
    requests: int = 2000
    seed: int = 0
    threads: int = 0
    max_ready_seconds: float = 15.0
    max_rss_mb: float = 700.0


@dataclass(slots=True)
class Observed:
    """What was seen of the server while it answered.

    Attributes:
        ready_seconds: from the start of the process to ready.
        ready_rss_mb: resident memory then.
        counts: requests answered at each reading of the memory.
        rss_mb: those readings.
        peak_mb: greatest resident memory of the process's life, loading included.
        errors: requests with a status other than 200, by status; 0 where there was no response.
        lengths: code points of each context.
        windows: that each answered context was cut into.
        seconds: that all requests took.
        exit_status: after SIGTERM.
    """

    ready_seconds: float
    ready_rss_mb: float
    counts: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    seconds: float = 0.0
    exit_status: int = 0

    @property
    def greatest_mb(self) -> float:
        """Greatest reading of the memory, from ready on."""
        return max(self.ready_rss_mb, *self.rss_mb)


def measure(dataset: SquadDataset, options: FootprintOptions) -> Document:
    """Run the server under `requests` questions of `dataset`.

    Raises:
        BenchmarkError: the server cannot be started, measured or stopped.
        ValueError: no questions.
    """
    port = free_port()
    where = ("--store", str(options.store.absolute()), "--model", options.model, "--threads", str(options.threads))
    with ServerProcess(leeway_serve(port, *where), port) as server:
        seen = Observed(server.wait_ready(_GIVE_UP_SECONDS), memory_mb(server.pid)[0])
        say(f"ready after {seen.ready_seconds:.1f} s, {seen.ready_rss_mb:.0f} MB resident")
        ask_all(server.caller, server.pid, mixed_lengths(dataset, options.requests, options.seed), seen)
        seen.exit_status = server.stop()
    return document(seen, options)


def ask_all(caller: Caller, pid: int, asked: Iterable[Asked], seen: Observed) -> None:
    """Ask one question after the other and read the memory in between.

    Raises:
        BenchmarkError: the process is gone.
    """
    began_ns = time.monotonic_ns()
    for count, each in enumerate(asked, start=1):
        status, body = caller.ask(each.question, each.context)
        seen.lengths.append(len(each.context))
        if status == 200:
            seen.windows.append(int(body["windows"]))
        else:
            seen.errors[str(status)] = seen.errors.get(str(status), 0) + 1
        if count % SAMPLE_EVERY == 0:
            resident, seen.peak_mb = memory_mb(pid)
            seen.counts.append(count)
            seen.rss_mb.append(resident)
        if count % _SAY_EVERY == 0:
            say(f"{count} requests, {seen.rss_mb[-1]:.0f} MB resident")
    seen.seconds = (time.monotonic_ns() - began_ns) / 1e9


def document(seen: Observed, options: FootprintOptions) -> Document:
    """What was found, in numbers that a reader can check against each other."""
    trend = last_half_trend(seen.counts, seen.rss_mb)
    return {
        "benchmark": "footprint",
        "model": options.model,
        "requests": options.requests,
        "seed": options.seed,
        "ready_seconds": round(seen.ready_seconds, 2),
        "rss_mb": {
            "ready": round(seen.ready_rss_mb, 1),
            "half": round(seen.rss_mb[-1] - trend.growth, 1),
            "end": round(seen.rss_mb[-1], 1),
            "greatest": round(seen.greatest_mb, 1),
            "peak": round(seen.peak_mb, 1),
        },
        "last_half": {name: round(value, 3) for name, value in asdict(trend).items()},
        "requests_per_second": round(options.requests / max(seen.seconds, 1e-9), 2),
        "context_chars": _spread(seen.lengths),
        "windows": _spread(seen.windows),
        "errors": seen.errors,
        "exit_status": seen.exit_status,
        "readings": [[count, round(each, 1)] for count, each in zip(seen.counts, seen.rss_mb, strict=True)],
        "broken": breaches(seen, trend, options),
    }


def breaches(seen: Observed, trend: Trend, options: FootprintOptions) -> list[str]:
    """The limits that were broken."""
    broken = []
    if seen.ready_seconds > options.max_ready_seconds:
        broken.append(f"ready after {seen.ready_seconds:.1f} s, at most {options.max_ready_seconds}")
    if seen.greatest_mb > options.max_rss_mb:
        broken.append(f"{seen.greatest_mb:.0f} MB resident, at most {options.max_rss_mb:.0f}")
    if trend.is_growing:
        broken.append(
            f"growing: {trend.growth:.1f} MB over the last half (at most {GROWTH_MB}), "
            f"{trend.slope:.2f} +/- {trend.standard_error:.2f} MB per 1000 requests"
        )
    if seen.errors:
        broken.append(f"requests without a 200, by status: {seen.errors}")
    if seen.exit_status:
        broken.append(f"exit status {seen.exit_status} after SIGTERM, not 0")
    return broken


def _spread(values: list[int]) -> dict[str, float]:
    """Least, median, mean, greatest; nothing of nothing."""
    if not values:
        return {}
    return {
        "min": min(values),
        "median": float(np.median(values)),
        "mean": round(float(np.mean(values)), 1),
        "max": max(values),
    }


@plain_errors
def footprint(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[Path, typer.Option(help="Questions in SQuAD format, plain or .gz.")],
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    requests: Annotated[int, typer.Option(min=4 * SAMPLE_EVERY, help="Questions asked over HTTP.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the questions and the lengths of their contexts.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Of one inference; 0: what the server may use.")] = 0,
    max_ready_seconds: Annotated[float, typer.Option(min=0, help="Limit from start to ready.")] = 15.0,
    max_rss_mb: Annotated[float, typer.Option(min=0, help="Limit of resident memory, MB of 10^6 bytes.")] = 700.0,
) -> None:
    """Measure start-up, memory and its growth in a real server; the last line is one JSON document."""
    check_data(data)
    options = FootprintOptions(
        model=model,
        store=store if store is not None else packaged_store(),
        requests=requests,
        seed=seed,
        threads=threads,
        max_ready_seconds=max_ready_seconds,
        max_rss_mb=max_rss_mb,
    )
    finish({**measure(load_squad(data), options), "data": data.name})


if __name__ == "__main__":
    typer.run(footprint)
