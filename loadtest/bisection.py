"""The highest rate that passes, found by doubling or halving, then by bisection of the logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried."""

    rate: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        rate: highest that passed; None if none did.
        failed: lowest that failed above it; None if none did.
        settled: whether the two are as close as was asked for.
        probes: all of them, in order.
    """

    rate: float | None
    failed: float | None
    settled: bool
    probes: tuple[Probe, ...]


def highest_passing(
    passes: Callable[[float], bool], start: float, *, tolerance: float = 0.05, most_probes: int = 16
) -> Found:
    """Search as if every rate below one that passes would pass, too.

    Measured predicates are noisy, so that holds only nearly: the answer is a rate that passed, whose neighbour
    at most `tolerance` higher failed.

    Args:
        passes: tries one rate.
        start: first rate tried, more than 0.
        tolerance: the search ends when failed / passed is at most 1 + `tolerance`.
        most_probes: it ends after so many in any case.

    Raises:
        ValueError: `start` or `tolerance` is not positive, or there is no probe to spend.
    """
    if start <= 0 or tolerance <= 0 or most_probes < 1:
        raise ValueError("start, tolerance and most_probes must be positive")
    low, high, probes = 0.0, math.inf, list[Probe]()
    while len(probes) < most_probes and high > low * (1.0 + tolerance):
        rate = _next_rate(low, high, start)
        probes.append(Probe(rate, passes(rate)))
        if probes[-1].passed:
            low = rate
        else:
            high = rate
    return Found(
        rate=low or None,
        failed=None if math.isinf(high) else high,
        settled=0.0 < high <= low * (1.0 + tolerance),
        probes=tuple(probes),
    )


def _next_rate(low: float, high: float, start: float) -> float:
    if low == 0.0:
        return start if math.isinf(high) else high / 2.0
    return low * 2.0 if math.isinf(high) else math.sqrt(low * high)
