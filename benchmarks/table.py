"""Is a cheaper length configuration really faster?  ``python -m benchmarks.table``.

Every point of the Pareto table at one length, in interleaved rounds on the bare engine: a round calls every point once,
in an order of its own, so that what slows the host for a while slows all points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.peers.ratios import Ratio, ratio
from benchmarks.report import Document, finish, plain_errors, say
from benchmarks.server_process import BenchmarkError
from model_store import ModelStore, ParetoPoint
from model_store.errors import ModelStoreError
from server.engine import create_engine, installed_engines
from server.engine.interface import Engine, WindowTokens
from server.engine.probe import ProbeWindow
from server.settings import packaged_store

_UNCOUNTED = 3


def times(
    engine: Engine, points: Sequence[ParetoPoint], windows: Sequence[WindowTokens], rounds: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Nanoseconds by point, ``[rounds, windows]``: in each round every point runs each window once."""
    generator = np.random.default_rng(seed)
    found = {point.id: np.zeros((rounds, len(windows)), dtype=np.int64) for point in points}
    for turn in range(-_UNCOUNTED, rounds):
        for place, window in enumerate(windows):
            for index in generator.permutation(len(points)):
                taken = engine.run([window], points[index].configuration).inference_ns
                if turn >= 0:
                    found[points[index].id][turn, place] = taken
    return found


def document(found: Mapping[str, NDArray[np.int64]], macs: Mapping[str, float], max_cheapest: float) -> Document:
    """Medians, times relative to full, and what is broken.

    Args:
        found: nanoseconds by point, cheapest first, ``[rounds, windows]``.
        macs: of the points.
        max_cheapest: share of full's time that the cheapest point may take.
    """
    ids = list(found)
    shares: dict[str, Ratio] = {name: ratio(each, found[ids[-1]]) for name, each in found.items()}
    points = [
        {
            "length_config": name,
            "macs_share": round(macs[name] / macs[ids[-1]], 4),
            "p50_ms": round(float(np.median(found[name])) / 1e6, 3),
            "time_share": round(shares[name].value, 4),
            "interval": [round(shares[name].low, 4), round(shares[name].high, 4)],
        }
        for name in ids
    ]
    broken = [
        f"{dearer} takes no more time than {cheaper}"
        for cheaper, dearer in pairwise(ids)
        if shares[dearer].value <= shares[cheaper].value
    ]
    if shares[ids[0]].value > max_cheapest:
        broken.append(f"{ids[0]} takes {shares[ids[0]].value:.3f} of full's time, at most {max_cheapest:g}")
    return {"benchmark": "table", "points": points, "broken": broken}


@plain_errors
def table(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    length: Annotated[int, typer.Option(min=2, help="Tokens of the windows.")] = 300,
    engine: Annotated[str, typer.Option(help="Of those made for serving; the first installed if not given.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Of a call; 0: all that this process may use.")] = 0,
    windows: Annotated[int, typer.Option(min=1, help="Different ones, of random tokens.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Calls of each point with each window.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Of tokens and order.")] = 0,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    max_cheapest: Annotated[
        float, typer.Option(min=0, help="Limit: the cheapest point's share of full's time.")
    ] = 0.55,
) -> None:
    """Engine time of every point of the Pareto table at one length; the last line is one JSON document."""
    try:
        artifact = ModelStore(store if store is not None else packaged_store()).load(model)
    except ModelStoreError as error:
        raise BenchmarkError(f"the model {model!r} cannot be loaded: {error}") from error
    name = engine or installed_engines()[0]
    running = create_engine(name, artifact, threads=threads)
    points, vocabulary = artifact.table.points, artifact.manifest.architecture.vocabulary
    running.warm_up([point.configuration for point in points])
    generator = np.random.default_rng(seed)
    drawn = [ProbeWindow.drawn(length, vocabulary, generator) for _ in range(windows)]
    say(f"{name}: {len(points)} points, {windows} windows, {rounds} rounds")
    found = times(running, points, drawn, rounds, seed)
    running.close()
    result = document(found, {point.id: point.macs for point in points}, max_cheapest)
    finish(
        {
            **result,
            "engine": name,
            "threads": running.info.threads,
            "length": length,
            "windows": windows,
            "rounds": rounds,
        }
    )


if __name__ == "__main__":
    typer.run(table)
