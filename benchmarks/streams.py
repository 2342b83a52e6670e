"""How to divide the cores among calls side by side and threads of each.  ``python -m benchmarks.streams --data F``.

An arrangement K x T is K engines with T threads each (a *stream* in OpenVINO's terms: one call at a time). Latency is
asked one question at a time, throughput with as many in flight as there are streams.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.peers.pieces import Prepared, drawn
from benchmarks.peers.ratios import percentiles_ms, ratio
from benchmarks.peers.rounds import schedule
from benchmarks.report import Document, check_data, finish, plain_errors, say
from benchmarks.server_process import BenchmarkError
from benchmarks.workload import EXCERPT
from model_store import ModelStore
from model_store.errors import ModelStoreError
from model_store.length_config import LengthConfiguration
from server.engine import create_engine, installed_engines
from server.engine.interface import Engine
from server.engine.skimming import ranked_windows
from server.settings import packaged_store


@dataclass(frozen=True, slots=True, order=True)
class Arrangement:
    """Streams side by side, and threads of each."""

    streams: int
    threads: int

    @property
    def name(self) -> str:
        """As in ``2x1``."""
        return f"{self.streams}x{self.threads}"


Answering = Mapping[str, Sequence[Engine]]
"""The engines of each arrangement, by name."""


def arrangements(cores: int) -> list[Arrangement]:
    """Every way to give all of `cores` to streams of one size; the server's own, one stream, comes first."""
    return [Arrangement(streams, cores // streams) for streams in range(1, cores + 1) if cores % streams == 0]


def in_flight(
    engines: Sequence[Engine], questions: Sequence[Prepared], configuration: LengthConfiguration
) -> tuple[int, NDArray[np.int64]]:
    """Answer all questions, each engine taking the next one when it is free.

    Returns:
        Nanoseconds from the first question to the last answer, and those of each call, ``[questions]``.
    """
    times = np.zeros(len(questions), dtype=np.int64)
    waiting = iter(range(len(questions)))
    taking = threading.Lock()
    together = threading.Barrier(len(engines) + 1)

    def work(engine: Engine) -> None:
        together.wait()
        while True:
            with taking:
                number = next(waiting, None)
            if number is None:
                return
            began = time.monotonic_ns()
            engine.run(ranked_windows(engine, questions[number].windows, [configuration]), configuration)
            times[number] = time.monotonic_ns() - began

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for each in threads:
        each.start()
    together.wait()
    began = time.monotonic_ns()
    for each in threads:
        each.join()
    return time.monotonic_ns() - began, times


def rounds(  # noqa: PLR0913 - what a measurement is made of
    who: Answering,
    questions: Sequence[Prepared],
    configuration: LengthConfiguration,
    *,
    runs: int,
    seed: int,
    chunk: int,
) -> Document:
    """Throughput and latency of every arrangement, in turns; the first round does not count.

    Returns:
        Name -> ``alone`` (percentiles of one question at a time), ``saturated`` (percentiles of the calls with every
        stream busy, and ``questions_per_second`` of all streams together), and for both the ratio of the first
        arrangement's time to this one's, with its 95% bootstrap interval: above 1 is faster.
    """
    names = list(who)
    for turn in schedule(names, len(questions), 1, seed, chunk):
        in_flight(who[turn.system], questions[turn.first : turn.last], configuration)
    alone = {name: np.zeros((runs, len(questions)), dtype=np.int64) for name in names}
    calls = {name: np.zeros((runs, len(questions)), dtype=np.int64) for name in names}
    walls = {name: np.zeros((runs, -(-len(questions) // chunk)), dtype=np.int64) for name in names}
    for turn in schedule(names, len(questions), runs, seed, chunk):
        part, place = questions[turn.first : turn.last], slice(turn.first, turn.last)
        engines = who[turn.system]
        in_flight(engines, part[: len(engines)], configuration)  # whoever was asked before had the caches
        alone[turn.system][turn.run, place] = in_flight(engines[:1], part, configuration)[1]
        walls[turn.system][turn.run, turn.first // chunk], calls[turn.system][turn.run, place] = in_flight(
            engines, part, configuration
        )
    first = names[0]
    found: Document = {}
    for name in names:
        saturated = percentiles_ms(calls[name])
        saturated["questions_per_second"] = round(1e9 * runs * len(questions) / float(walls[name].sum()), 2)
        latency, throughput = ratio(alone[first], alone[name]), ratio(walls[first], walls[name])
        found[name] = {
            "alone": percentiles_ms(alone[name]),
            "saturated": saturated,
            "latency_gain": {"value": round(latency.value, 4), **latency.document()},
            "throughput_gain": {"value": round(throughput.value, 4), **throughput.document()},
        }
    return found


@plain_errors
def streams(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[
        Path, typer.Option(envvar="DATA", help="Questions in SQuAD format; the committed excerpt if not given.")
    ] = EXCERPT,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    engine: Annotated[str, typer.Option(help="Of those made for serving; the first installed if not given.")] = "",
    config: Annotated[list[str] | None, typer.Option(help="Length configuration (several times).")] = None,
    cores: Annotated[int, typer.Option(min=0, help="To divide; 0: all that this process may use.")] = 0,
    questions: Annotated[int, typer.Option(min=1, help="Of the file.")] = 100,
    runs: Annotated[int, typer.Option(min=1, help="Rounds over them.")] = 5,
    chunk: Annotated[int, typer.Option(min=1, help="Questions of a turn.")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Of questions and order.")] = 0,
) -> None:
    """Latency and throughput of every division of the cores; the last line is one JSON document."""
    check_data(data)
    try:
        artifact = ModelStore(store if store is not None else packaged_store()).load(model)
    except ModelStoreError as error:
        raise BenchmarkError(f"the model {model!r} cannot be loaded: {error}") from error
    asked = drawn(artifact, data, questions, seed)
    points = {point.id: point.configuration for point in artifact.table.points}
    wanted = config or [artifact.table.points[-1].id, artifact.table.points[0].id]
    if unknown := [each for each in wanted if each not in points]:
        raise BenchmarkError(f"there is no length configuration {unknown[0]!r}; there are {', '.join(points)}")
    inside = engine or installed_engines()[0]
    who = {
        each.name: [create_engine(inside, artifact, threads=each.threads) for _ in range(each.streams)]
        for each in arrangements(cores or len(os.sched_getaffinity(0)))
    }
    document: Document = {"benchmark": "streams", "engine": inside, "configurations": {}, "broken": []}
    for each in wanted:
        say(f"{each}: {', '.join(who)}")
        document["configurations"][each] = rounds(who, asked, points[each], runs=runs, seed=seed, chunk=chunk)
    finish(document)


if __name__ == "__main__":
    typer.run(streams)
