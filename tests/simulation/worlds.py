"""Small worlds whose times can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.simulation.host import Host
from benchmarks.simulation.trace import NO_BUDGET, Trace
from benchmarks.simulation.world import World
from model_store import LengthConfiguration, ParetoPoint, ParetoTable, full_configuration
from server.routing.profile import LatencyProfile, ProfileKey

MS = 1_000_000
F1 = (50.0, 70.0, 80.0)
MS_PER_100_TOKENS = (4.0, 7.0, 10.0)


def world(*, residuals: tuple[float, ...] = (1.0,)) -> World:
    """c02 (F1 50), c01 (70) and full (80): 4, 7 and 10 ms per 100 tokens; nothing else takes time."""
    shapes = [LengthConfiguration("c02", (1.0, 0.4)), LengthConfiguration("c01", (1.0, 0.7)), full_configuration(2)]
    points = [ParetoPoint(shape, 1e6 * (i + 1), F1[i], F1[i]) for i, shape in enumerate(shapes)]
    profile = LatencyProfile(
        key=ProfileKey("a", "b", "c", "d", 1),
        configurations=("c02", "c01", "full"),
        lengths=(100, 200),
        window_ns=tuple((each * MS, 2 * each * MS) for each in MS_PER_100_TOKENS),
        residuals=residuals,
        answer_ns=0.0,
        answer_ns_per_window=0.0,
        tokenize_ns=0.0,
        tokenize_ns_per_char=0.0,
        measured="calibrated",
    )
    return World(ParetoTable(tuple(points), 100.0), profile, "by hand", "by hand")


def asked(requests: Sequence[tuple[float, float | None]], *, host: Host = Host()) -> Trace:  # noqa: B008 - frozen
    """Requests of 100 tokens by (arrival, budget) in milliseconds."""
    budgets = [NO_BUDGET if budget is None else round(budget * MS) for _, budget in requests]
    return Trace(
        name="by hand",
        seed=0,
        seconds=1.0,
        arrival_ns=np.array([round(arrival * MS) for arrival, _ in requests], dtype=np.int64),
        windows=((100,),) * len(requests),
        budget_ns=np.array(budgets, dtype=np.int64),
        group=np.zeros(len(requests), dtype=np.int64),
        labels=("all",),
        residual=np.ones(len(requests)),
        host=host,
    )
