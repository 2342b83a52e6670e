"""What is asked: ten seeded traces."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.host import Host, StallRate
from benchmarks.simulation.world import FloatArray, World, lengths_at, residuals_at

IntArray = NDArray[np.int64]

NO_BUDGET = -1
SECOND_NS = 1_000_000_000
CHARS_PER_TOKEN = 4.3
"""Code points per token, question and context together (the SQuAD excerpts of this project have 4.0 and 4.3)."""

_GRID = 1000  # points per second at which the cumulative rate is kept


@dataclass(frozen=True, slots=True)
class BudgetClass:
    """A kind of caller.

    Attributes:
        label: its name.
        share: of the requests.
        budget: in units of `World.unit_budget_ns`; None without one.
    """

    label: str
    share: float
    budget: float | None


DEFAULT_BUDGET = (BudgetClass("default", 1.0, 8.0),)
MIXED_BUDGETS = (
    BudgetClass("tight", 0.25, 1.2),
    BudgetClass("medium", 0.35, 4.0),
    BudgetClass("loose", 0.25, 20.0),
    BudgetClass("none", 0.15, None),
)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a trace is made of.

    Attributes:
        seconds: how long requests come.
        load: percent of the full configuration's capacity, from an array of seconds.
        variation: coefficient of variation of the gaps; 1 is a Poisson process, others are gamma renewals.
        budgets: the classes.
        slow_at: second at which the host halves its speed.
        step: seconds between which the load is at its step.
    """

    seconds: float
    load: Callable[[FloatArray], FloatArray]
    variation: float = 1.0
    budgets: tuple[BudgetClass, ...] = DEFAULT_BUDGET
    slow_at: float | None = None
    step: tuple[float, float] | None = None


@dataclass(frozen=True)
class Trace:
    """Requests of one seed, by arrival; ``n`` of them.

    Attributes:
        name: of the trace.
        seed: of all draws.
        seconds: how long requests come.
        arrival_ns: int64 ``[n]``, rising.
        windows: real tokens of each window of each request.
        budget_ns: int64 ``[n]``; `NO_BUDGET` without one.
        group: index into `labels`, int64 ``[n]``.
        labels: budget classes.
        residual: true over typical time, ``[n]``, whatever the configuration.
        host: how fast it works when.
        step: seconds between which the load is at its step, if it has one.
    """

    name: str
    seed: int
    seconds: float
    arrival_ns: IntArray
    windows: tuple[tuple[int, ...], ...]
    budget_ns: IntArray
    group: IntArray
    labels: tuple[str, ...]
    residual: FloatArray
    host: Host
    step: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @cached_property
    def seconds_of_arrival(self) -> FloatArray:
        """``[n]``."""
        return self.arrival_ns / SECOND_NS

    def ready_ns(self, world: World) -> IntArray:
        """When each request has been tokenized and is offered to the router, int64 ``[n]``."""
        tokens = np.array([sum(each) for each in self.windows])
        profile = world.profile
        delay = profile.tokenize_ns + profile.tokenize_ns_per_char * CHARS_PER_TOKEN * tokens
        return np.asarray(self.arrival_ns + np.rint(delay).astype(np.int64), dtype=np.int64)


def _constant(percent: float) -> Callable[[FloatArray], FloatArray]:
    return lambda seconds: np.full_like(seconds, percent)


def _step(seconds: FloatArray) -> FloatArray:
    return np.where((seconds >= 20.0) & (seconds < 25.0), 300.0, 50.0)


def _diurnal(seconds: FloatArray) -> FloatArray:
    return 105.0 - 75.0 * np.cos(2 * np.pi * seconds / 120.0)


SPECS: dict[str, Spec] = {
    "poisson_50": Spec(60.0, _constant(50.0)),
    "poisson_80": Spec(60.0, _constant(80.0)),
    "poisson_100": Spec(60.0, _constant(100.0)),
    "poisson_130": Spec(60.0, _constant(130.0)),
    "poisson_200": Spec(60.0, _constant(200.0)),
    "burst_cv4": Spec(60.0, _constant(80.0), variation=4.0),
    "step_300": Spec(60.0, _step, step=(20.0, 25.0)),
    "diurnal": Spec(120.0, _diurnal),
    "mixed_budgets": Spec(60.0, _constant(100.0), budgets=MIXED_BUDGETS),
    "slow_2x": Spec(120.0, _constant(60.0), slow_at=60.0),
}
"""Loads in percent of the full configuration's capacity.  diurnal: one sine from 30% to 180% and back."""


def make_trace(
    name: str, seed: int, world: World, *, seconds: float | None = None, stalls: StallRate | None = None
) -> Trace:
    """The trace `name` with every draw seeded by `seed`, and no draw the same as another trace's.

    Args:
        name: one of `SPECS`.
        seed: arrivals, lengths, budgets, residuals and stalls have a generator each.
        world: gives capacity, lengths and times.
        seconds: stop after that many.
        stalls: of the host; it has none if not given.

    Raises:
        ValueError: no such trace.
    """
    if name not in SPECS:
        raise ValueError(f"there is no trace {name!r:.40} (there are: {', '.join(SPECS)})")
    spec = SPECS[name]
    length = min(spec.seconds, seconds or spec.seconds)
    arrivals, lengths, budgets, residuals, pauses = (
        np.random.default_rng([seed, part, zlib.crc32(name.encode())]) for part in range(5)
    )
    arrival_ns = _arrivals(spec, length, world.capacity, arrivals)
    count = len(arrival_ns)
    group = budgets.choice(len(spec.budgets), size=count, p=[each.share for each in spec.budgets]).astype(np.int64)
    in_ns = [NO_BUDGET if each.budget is None else each.budget * world.unit_budget_ns for each in spec.budgets]
    return Trace(
        name=name,
        seed=seed,
        seconds=length,
        arrival_ns=arrival_ns,
        windows=tuple(lengths_at(lengths.random(count))),
        budget_ns=np.array(in_ns, dtype=np.int64)[group],
        group=group,
        labels=tuple(each.label for each in spec.budgets),
        residual=residuals_at(world.profile, residuals.random(count)),
        host=Host(
            None if spec.slow_at is None else int(spec.slow_at * SECOND_NS),
            stalls=() if stalls is None else stalls.drawn(length, pauses),
        ),
        step=spec.step,
    )


def _arrivals(spec: Spec, seconds: float, capacity: float, random: np.random.Generator) -> IntArray:
    """A renewal process with unit mean gap, its time warped so that the rate follows the load, int64 ``[n]``."""
    grid = np.linspace(0.0, seconds, int(seconds * _GRID) + 1)
    rate = spec.load((grid[:-1] + grid[1:]) / 2) / 100.0 * capacity
    expected = np.concatenate([[0.0], np.cumsum(rate * np.diff(grid))])
    shape = spec.variation**-2
    many = int(expected[-1] + 10.0 * spec.variation * np.sqrt(expected[-1]) + 100)
    ticks = np.cumsum(random.gamma(shape, 1.0 / shape, size=many))
    times = np.interp(ticks[ticks < expected[-1]], expected, grid)
    return np.asarray(np.rint(times * SECOND_NS), dtype=np.int64)
