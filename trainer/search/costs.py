"""What a length configuration costs: multiply-accumulate operations, or engine time on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from model_store import Architecture, LengthConfiguration, full_configuration, macs_at
from model_store.length_config import COUNT_STEP
from server.engine.interface import Engine, WindowTokens
from trainer.search.core import CostFunction

Clock = Callable[[], int]
"""Integer nanoseconds of a monotonic clock."""


def nominal_length(mean_real_length: float) -> int:
    """The multiple of `COUNT_STEP` nearest to the mean real length, at least one step.

    At this length every keep count of a `GeneSpace` with ``levels = length / COUNT_STEP`` is kept exactly: MACs
    are counted for the tokens that the search asked for, not for what rounding made of them.
    """
    return max(1, round(mean_real_length / COUNT_STEP)) * COUNT_STEP


def macs_cost(architecture: Architecture, real_length: int) -> CostFunction:
    """Cost function: MACs of one window of `real_length` tokens."""
    return lambda configuration: macs_at(architecture, real_length, configuration)


def interleaved_times(
    engine: Engine,
    configurations: Sequence[LengthConfiguration],
    windows: Sequence[WindowTokens],
    rounds: int,
    clock_ns: Clock = time.monotonic_ns,
) -> list[float]:
    """Median nanoseconds per pass over `windows`, one call per window, for each of `configurations`.

    Each window is run under every configuration before the next window: what slows the machine for a while
    slows all of them.  A round before the first is not measured: it meets the shapes.

    Raises:
        ValueError: no configuration, no window or no round.
    """
    if not configurations or not windows or rounds < 1:
        raise ValueError("times need a configuration, a window and a round at least")
    seen: list[list[int]] = [[] for _ in configurations]
    for turn in range(rounds + 1):
        totals = [0] * len(configurations)
        for window in windows:
            for place, configuration in enumerate(configurations):
                began = clock_ns()
                engine.run([window], configuration)
                totals[place] += clock_ns() - began
        if turn:
            for times, total in zip(seen, totals, strict=True):
                times.append(total)
    return [float(median(times)) for times in seen]


def time_cost(
    engine: Engine, windows: Sequence[WindowTokens], rounds: int, clock_ns: Clock = time.monotonic_ns
) -> CostFunction:
    """Cost function: engine time as a share of the full configuration's, measured in one interleaved series.

    The share rather than the nanoseconds, as a search takes hours in which the machine's speed drifts.  `full`
    itself costs exactly 1.
    """

    def cost(configuration: LengthConfiguration) -> float:
        if configuration.is_full:
            return 1.0
        full = full_configuration(len(configuration.ratios))
        mine, whole = interleaved_times(engine, [configuration, full], windows, rounds, clock_ns)
        return mine / whole

    return cost
