"""How long the router thinks: admission and dispatch beside a full queue, in this process, without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.promise.figures import percentiles
from benchmarks.report import Document
from benchmarks.server_process import BenchmarkError
from benchmarks.simulation.world import EXAMPLE_POINTS, World, example_profile, example_table, lengths_at, load_world
from server.routing.latency_model import LatencyModel
from server.routing.policy import BacklogPrice
from server.routing.router import Router, RoutingSettings
from server.routing.ticket import Request, Ticket

MOST_MEDIAN_US = 100.0

_BUDGETS_S = (2.0, 20.0)
_WITHOUT_BUDGET = 0.2
_TRIES = 10
_TYPICAL_TOKENS = 170


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """How much is asked.

    Attributes:
        rounds: of one admission and one dispatch.
        queued: requests that wait before each round.
        seed: of lengths and budgets.
    """

    rounds: int = 2000
    queued: int = 200
    seed: int = 0


def measure(store: Path, model: str, options: DispatchOptions) -> Document:
    """Time every round.

    Raises:
        BenchmarkError: requests are refused so often that the queue cannot be kept full.
    """
    world = _world(store, model)
    times_us = Bench(world, options).times_us()
    found = {
        "benchmark": "dispatch",
        "table": world.table_source,
        "configurations": len(world.table.points),
        "queued": options.queued,
        "rounds": options.rounds,
        "seed": options.seed,
        "admit_and_dispatch_us": percentiles(times_us),
    }
    return {**found, "broken": breaches(found)}


def breaches(found: Document) -> list[str]:
    """The limit, if it was broken."""
    median = found["admit_and_dispatch_us"]["p50"]
    if median > MOST_MEDIAN_US:
        return [f"admission and dispatch take {median:.1f} us at the median, at most {MOST_MEDIAN_US:g}"]
    return []


class Bench:
    """A router, a virtual clock, and requests for it; the engine takes just as long as expected."""

    def __init__(self, world: World, options: DispatchOptions) -> None:
        latency_model = LatencyModel(world.profile)
        typical_ns = latency_model.work((_TYPICAL_TOKENS,)).base_ns
        # One more than wait, and one for the rest of a long text that is put back.
        settings = RoutingSettings(capacity=options.queued + 2)
        self.router = Router(world.table, latency_model, BacklogPrice(world.f1, typical_ns), settings)
        self.now_ns = 0
        self._options = options
        self._random = np.random.default_rng(options.seed)
        self._requests = self._drawn()

    def times_us(self) -> list[float]:
        """Of admission plus dispatch, each with `queued` requests waiting before it."""
        self.fill()
        return [self.round_us() for _ in range(self._options.rounds)]

    def fill(self) -> None:
        """Let requests wait until there are enough, or take some out until there are no more than that."""
        tries = _TRIES * (self._options.queued + 1)
        while self.router.waiting < self._options.queued:
            self.router.admit(next(self._requests), self.now_ns)
            tries -= 1
            if not tries:
                raise BenchmarkError("the router refuses most requests: the queue cannot be kept full")
        while self.router.waiting > self._options.queued:
            self._run_one()

    def round_us(self) -> float:
        """One admission that lets the request wait, and the dispatch that follows it."""
        while True:
            request = next(self._requests)
            began_ns = time.perf_counter_ns()
            found = self.router.admit(request, self.now_ns)
            dispatch, _ = self.router.dispatch(self.now_ns)
            ended_ns = time.perf_counter_ns()
            if dispatch is not None:
                self.now_ns += round(dispatch.expected_ns)
                self.router.finished(dispatch, self.now_ns)
            self.fill()
            if isinstance(found, Ticket):
                return (ended_ns - began_ns) / 1e3

    def _run_one(self) -> None:
        dispatch, _ = self.router.dispatch(self.now_ns)
        if dispatch is not None:
            self.now_ns += round(dispatch.expected_ns)
            self.router.finished(dispatch, self.now_ns)

    def _drawn(self) -> Iterator[Request]:
        """Lengths as in SQuAD, budgets of seconds (log-uniform), every fifth request without."""
        low, high = np.log(_BUDGETS_S)
        while True:
            (lengths,) = lengths_at(self._random.random(1))
            budget_ns = round(float(np.exp(self._random.uniform(low, high))) * 1e9)
            without = self._random.random() < _WITHOUT_BUDGET
            yield Request(lengths, self.now_ns, None if without else budget_ns)


def _world(store: Path, model: str) -> World:
    """The model's own table if it has as many points as the example, else the example; always the example's times."""
    world = load_world(store, model, None)
    if len(world.table.points) >= EXAMPLE_POINTS:
        return world
    table = example_table()
    source = f"EXAMPLE of {len(table.points)} points, because {model} has fewer"
    return World(table, example_profile(table), source, world.profile_source)
