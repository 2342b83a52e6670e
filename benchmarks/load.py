"""Do the promises hold under load?  ``python -m benchmarks.load --data SQUAD`` (extra ``loadtest``; Linux).

A calibrated server on one core, Locust on another; every scenario in every round, so that a host that is slow for a
while hits all alike.  All runs are kept, limits are on medians.  ``benchmarks/README.md`` says what each limit means.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.promise.client import FastClient, prepared
from benchmarks.promise.pinned import PinnedServer, Setup, configuration_ids, pinned_server
from benchmarks.report import Document, check_data, finish, plain_errors, say
from benchmarks.server_process import HOST, BenchmarkError, memory_mb, without_settings
from benchmarks.workload import mixed_lengths
from loadtest.limits import VOID
from reading import load_squad
from server.settings import packaged_store

LOCUSTFILE = Path(__file__).resolve().parents[1] / "loadtest" / "locustfile.py"
FULL = "full"

LEAST_ATTAINMENT_70 = 0.99
MOST_F1_LOST_70 = 2.0
LEAST_GAIN_120 = 0.10
LEAST_GOODPUT_SHARE = 0.85
LEAST_ATTAINMENT_AFTER = 0.99
LEAST_RATE_SHARE = 0.85
MOST_MB_A_MINUTE = 0.05
SETTLED_MINUTES = 5.0

_CLIENTS = 4
_MOST_VOID = 3
_CAPACITY_SECONDS = 6.0
_SAMPLE_SECONDS = 5.0
_PARAGRAPHS = 400
_LONGEST_RUN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Play:
    """A scenario of ``loadtest/scenarios``, and the length configuration that it is held at; none: routed."""

    scenario: str
    length_config: str = ""

    @property
    def name(self) -> str:
        """Of its report."""
        return f"{self.scenario}-{self.length_config}" if self.length_config else self.scenario


ROUND = (
    Play("load_70"),
    Play("load_70_full"),
    Play("load_120"),
    Play("load_120", FULL),
    Play("overload"),
    Play("server"),
    Play("server", FULL),
)

Runs = Mapping[str, Sequence[Document]]


@dataclass(frozen=True, slots=True)
class Generator:
    """Locust, against one server.

    Attributes:
        server: what it asks.
        data: questions in SQuAD format.
        folder: of the reports.
        void: runs that were void, and made again.
    """

    server: PinnedServer
    data: Path
    folder: Path
    void: list[str] = field(default_factory=list)

    def play(self, play: Play, draw: int, most_void: int = 0) -> Document:
        """The report of one run, which is kept as ``DRAW/NAME.json`` and ``.html``.

        A run is void if the generator could not keep its times, whatever its figures; it is made again.

        Raises:
            BenchmarkError: the run could not be made, or is void although it was made again `most_void` times.
        """
        for attempt in range(most_void + 1):
            done = self._locust(play, draw)
            if done.returncode != VOID or attempt == most_void:
                break
            say(f"{play.name}, draw {draw}: void, made again")
            self.void.append(f"{draw}/{play.name}")
        if done.returncode > 1:
            end = "\n".join(done.stderr.splitlines()[-5:])
            raise BenchmarkError(f"{play.name}, draw {draw}: locust ended with status {done.returncode}:\n{end}")
        report = self.folder / str(draw) / f"{play.name}.json"
        document: Document = json.loads(report.read_text(encoding="utf-8"))
        return document

    def _locust(self, play: Play, draw: int) -> subprocess.CompletedProcess[str]:
        folder = self.folder / str(draw)
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        options = ["--host", f"http://{HOST}:{self.server.port}", "--scenario", play.scenario, "--draw", str(draw)]
        options += ["--length-config", play.length_config, "--squad", str(self.data), "--report-dir", str(folder)]
        return subprocess.run(  # noqa: S603 - the command is this project's own
            command + options,
            env={**without_settings(), "GEVENT_BACKEND": "select"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_RUN_SECONDS,
        )


def capacity(server: PinnedServer, data: Path, length_config: str, seconds: float = _CAPACITY_SECONDS) -> float:
    """Answers per second of one length configuration, with several requests in flight, about real paragraphs."""
    asked = mixed_lengths(load_squad(data), _PARAGRAPHS, 0, longest=500)
    requests = [prepared(each, {"X-Length-Config": length_config}) for each in asked]
    counts = [0] * _CLIENTS
    end = time.monotonic() + seconds

    def ask(lane: int) -> None:
        client = FastClient(server.port)
        number = lane
        while time.monotonic() < end:
            counts[lane] += client.ask(requests[number % len(requests)]).status == 200
            number += _CLIENTS
        client.close()

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(lane,)) for lane in range(_CLIENTS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts) / (time.monotonic() - began)


def rounds(generator: Generator, cheapest: str, count: int, plays: Sequence[Play] = ROUND) -> Document:
    """All of `plays`, `count` times, and what they show.

    Raises:
        BenchmarkError: a run could not be made.
    """
    runs: dict[str, list[Document]] = {play.name: [] for play in plays}
    capacities: dict[str, list[float]] = {cheapest: [], FULL: []}
    for draw in range(count):
        for id_, found in capacities.items():
            found.append(capacity(generator.server, generator.data, id_))
        for play in plays:
            runs[play.name].append(generator.play(play, draw, _MOST_VOID))
            say(f"round {draw}: {one_line(runs[play.name][-1])}")
    figures = shown(runs, capacities[cheapest], capacities[FULL])
    return {
        "benchmark": "load",
        "runs": count,
        "cheapest": cheapest,
        "figures": figures,
        "void": list(generator.void),
        "all": {name: [brief(each) for each in found] for name, found in runs.items()},
        "capacities": {id_: [round(each, 2) for each in found] for id_, found in capacities.items()},
        "broken": breaches({name: each["median"] for name, each in figures.items()}),
    }


def shown(runs: Runs, cheapest: Sequence[float], full: Sequence[float]) -> Document:
    """The figures that limits are on, as far as `runs` has the scenarios: the median over the rounds, and all of them.

    Args:
        runs: reports by name, one per round.
        cheapest: answers per second of the cheapest configuration, one per round.
        full: likewise of full.
    """
    found: dict[str, list[float]] = {}
    if "load_70" in runs:
        found["load_70_attainment"] = [each["slo_attainment"] for each in runs["load_70"]]
    if {"load_70", "load_70_full"} <= set(runs):
        found["load_70_f1_lost"] = _pairs(runs, "load_70_full", "load_70", lambda each: each["effective_f1"])
    if {"load_120", "load_120-full"} <= set(runs):
        gained = _pairs(runs, "load_120", "load_120-full", lambda each: each["slo_attainment"])
        found["load_120_attainment_gained"] = gained
    if "overload" in runs:
        found["overload_goodput_of_cheapest"] = [
            each["phases"]["overload"]["goodput"] / rate for each, rate in zip(runs["overload"], cheapest, strict=True)
        ]
        found["overload_attainment_after"] = [each["phases"]["after"]["slo_attainment"] for each in runs["overload"]]
    if {"server", "server-full"} <= set(runs):
        found["server_rate"] = [each["search"]["offered_rate"] or 0.0 for each in runs["server"]]
        found["server_rate_of_what_times_allow"] = [
            (ours["search"]["offered_rate"] or 0.0) / (held["search"]["offered_rate"] or np.inf) / (fast / slow)
            for ours, held, fast, slow in zip(runs["server"], runs["server-full"], cheapest, full, strict=True)
        ]
    return {
        name: {"median": round(statistics.median(each), 4), "all": [round(one, 4) for one in each]}
        for name, each in found.items()
    }


def breaches(medians: Mapping[str, float]) -> list[str]:
    """Every limit that a median breaks; of what was not played there is none."""
    least = {
        "load_70_attainment": LEAST_ATTAINMENT_70,
        "load_120_attainment_gained": LEAST_GAIN_120,
        "overload_goodput_of_cheapest": LEAST_GOODPUT_SHARE,
        "overload_attainment_after": LEAST_ATTAINMENT_AFTER,
        "server_rate_of_what_times_allow": LEAST_RATE_SHARE,
    }
    found = [
        f"{name} is {medians[name]:g}, at least {bound:g}"
        for name, bound in least.items()
        if medians.get(name, bound) < bound
    ]
    if medians.get("load_70_f1_lost", 0.0) > MOST_F1_LOST_70:
        found.append(f"load_70_f1_lost is {medians['load_70_f1_lost']:g}, at most {MOST_F1_LOST_70:g}")
    return found


def brief(report: Document) -> Document:
    """Of a report, what tells one run from another."""
    kept = ("slo_attainment", "effective_f1", "goodput", "offered", "outcomes", "generator_lag_ms", "length_configs")
    found = {name: report[name] for name in kept}
    return found | {"search": report["search"] and {"offered_rate": report["search"]["offered_rate"]}}


def one_line(report: Document) -> str:
    """A run, for a terminal."""
    rate = f", rate {report['search']['offered_rate']}" if report["search"] else ""
    lag = report["generator_lag_ms"]["p99"]
    return (
        f"{report['scenario']}: attainment {report['slo_attainment']:.3f}, F1 {report['effective_f1']:.2f}, "
        f"lag {lag:.1f} ms{rate}"
    )


def soak(generator: Generator) -> Document:
    """20 minutes of mixed lengths, and the memory of the server meanwhile.

    The memory is also said minute by minute, so that a run that ends early still tells of it.

    Raises:
        BenchmarkError: the run could not be made.
    """
    readings: list[tuple[float, float]] = []
    stop = threading.Event()

    def read() -> None:
        began = time.monotonic()
        while not stop.wait(_SAMPLE_SECONDS):
            readings.append(((time.monotonic() - began) / 60.0, memory_mb(generator.server.pid)[0]))
            if int(readings[-1][0]) > int(readings[-2][0] if len(readings) > 1 else 0.0):
                say(f"minute {readings[-1][0]:.1f}: {readings[-1][1]:.2f} MB")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        report = generator.play(Play("soak"), 0)
    finally:
        stop.set()
        thread.join()
    slope = slope_mb_a_minute(readings)
    failed = int(report["outcomes"]["failed"])
    broken = [f"{failed} requests failed"] if failed else []
    if slope > MOST_MB_A_MINUTE:
        broken.append(f"memory grows by {slope:.3f} MB a minute, at most {MOST_MB_A_MINUTE:g}")
    return {
        "benchmark": "soak",
        **brief(report),
        "latency_ms": report["latency_ms"],
        "memory_mb_a_minute": round(slope, 4),
        "readings": [[round(minute, 2), round(each, 1)] for minute, each in readings],
        "broken": broken,
    }


def slope_mb_a_minute(readings: Sequence[tuple[float, float]], after: float = SETTLED_MINUTES) -> float:
    """Least squares over the readings (minute, MB) from minute `after` on.

    Raises:
        BenchmarkError: there are less than 3.
    """
    late = np.array([each for each in readings if each[0] >= after])
    if len(late) < 3:
        raise BenchmarkError(f"a slope needs 3 readings after minute {after:g}, there are {len(late)}")
    slope: float = np.polyfit(late[:, 0], late[:, 1], 1)[0]
    return float(slope)


def _pairs(runs: Runs, one: str, other: str, figure: Callable[[Any], float]) -> list[float]:
    return [figure(a) - figure(b) for a, b in zip(runs[one], runs[other], strict=True)]


@plain_errors
def main(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[Path, typer.Option(help="Questions in SQuAD format, plain or .gz.")],
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    runs: Annotated[int, typer.Option(min=1, help="Rounds of all scenarios.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Of the scenarios this one; several times.")] = None,
    soak_: Annotated[bool, typer.Option("--soak", help="The 20 minutes' soak in place of the rounds.")] = False,  # noqa: FBT002
    report_dir: Annotated[Path, typer.Option(help="Folder of Locust's reports.")] = Path("runs/load"),
    server_core: Annotated[int, typer.Option(min=0, help="Core of the server.")] = 0,
    client_core: Annotated[int, typer.Option(min=0, help="Core of the generator.")] = 1,
    calibration_seconds: Annotated[float, typer.Option(min=1, help="Of the calibration, at most.")] = 100.0,
) -> None:
    """Poisson at 70% and 120%, an overload, the highest rate within a bound; or a soak."""
    check_data(data)
    if soak_ and only:
        raise BenchmarkError("--soak plays one scenario, its own: leave out --only")
    unknown = set(only or ()) - {play.name for play in ROUND}
    if unknown:
        raise BenchmarkError(
            f"no such scenario: {', '.join(sorted(unknown))}; {', '.join(play.name for play in ROUND)}"
        )
    if importlib.util.find_spec("locust") is None:
        raise BenchmarkError("locust is not installed: pip install --editable '.[loadtest]'")
    plays = [play for play in ROUND if not only or play.name in only]
    folder = store if store is not None else packaged_store()
    setup = Setup(model, folder, data, server_core, client_core, calibration_seconds=calibration_seconds)
    with pinned_server(setup) as server:
        generator = Generator(server, data.absolute(), report_dir.absolute())
        document = soak(generator) if soak_ else rounds(generator, configuration_ids(setup)[0], runs, plays)
    finish({**document, "model": model, "data": data.name, "cpus": os.cpu_count()})


if __name__ == "__main__":
    typer.run(main)
