"""When requests come: computed before the run, so that nothing the server does can move an arrival.

All processes are one renewal process of mean gap 1, run along a clock that goes at the wanted rate (the
time change of Cinlar, "Introduction to Stochastic Processes", 1975, chapter 4.7).  So a Poisson process whose
rate has steps is an exact one, and a burst does not begin anew where the rate changes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Process = Literal["constant", "poisson", "gamma"]


class TraceError(ValueError):
    """A file that is no trace of timestamps; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A stretch of time with one rate.

    Attributes:
        seconds: its length, more than 0.
        per_second: arrivals per second on average, 0 or more.
    """

    seconds: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Intended times.

    Attributes:
        at_ns: since the beginning, int64 ``[n]``, ascending.
        phase: index of the stretch that each falls into, int64 ``[n]``.
        seconds: how long requests come.
    """

    at_ns: IntArray
    phase: IntArray
    seconds: float


def make_arrivals(process: Process, rates: Sequence[Rate], generator: np.random.Generator, cv: float = 1.0) -> Arrivals:
    """Arrivals along `rates`, one stretch after the other.

    Args:
        process: ``constant``: equal gaps, the first arrival at 0.  ``poisson``.  ``gamma``: bursts, gamma gaps.
        rates: at least one.
        generator: source of the gaps.
        cv: coefficient of variation of gamma gaps: 1 is Poisson, more comes in bursts.

    Raises:
        ValueError: no stretch, one without length, a negative rate, or a `cv` that is not positive.
    """
    if not rates or any(each.seconds <= 0 or each.per_second < 0 for each in rates):
        raise ValueError("rates need at least one stretch, each of positive length and no negative rate")
    seconds = np.array([each.seconds for each in rates])
    per_second = np.array([each.per_second for each in rates])
    expected = np.concatenate([[0.0], np.cumsum(seconds * per_second)])
    begins = np.concatenate([[0.0], np.cumsum(seconds)])
    places = _unit_places(process, float(expected[-1]), generator, cv)
    phase = np.searchsorted(expected[1:], places, side="right")  # one at a boundary belongs to what comes
    inside = phase < len(rates)
    places, phase = places[inside], phase[inside]
    at = begins[phase] + (places - expected[phase]) / per_second[phase]
    return Arrivals(np.rint(at * 1e9).astype(np.int64), phase.astype(np.int64), float(begins[-1]))


def _unit_places(process: Process, total: float, generator: np.random.Generator, cv: float) -> FloatArray:
    """Ascending places of a renewal process of mean gap 1, in ``[0, total)``."""
    if process == "constant":
        return np.arange(math.ceil(total), dtype=np.float64)
    shape = 1.0 if process == "poisson" else _gamma_shape(cv)
    blocks, reached = [np.empty(0)], 0.0
    while reached < total:
        gaps = generator.gamma(shape, 1.0 / shape, size=int(total - reached) + 64)
        blocks.append(reached + np.cumsum(gaps))
        reached = float(blocks[-1][-1])
    places = np.concatenate(blocks)
    return places[places < total]


def _gamma_shape(cv: float) -> float:
    if not cv > 0:
        raise ValueError("the coefficient of variation must be more than 0")
    return 1.0 / cv**2


def read_trace(path: Path) -> Arrivals:
    """Arrivals of a CSV file: its first column has timestamps in seconds, ascending; the first one is the beginning.

    A first line that is no number is taken for a header.

    Raises:
        OSError: the file cannot be opened.
        TraceError: it holds no two different timestamps, or one that is no number or smaller than the one before.
    """
    seconds: list[float] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.reader(lines):
                _append_timestamp(seconds, row, is_first=not seconds)
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise TraceError(f"{path}: after {len(seconds)} timestamps: {error}") from error
    if not seconds or seconds[0] == seconds[-1]:
        raise TraceError(f"{path}: there are no two different timestamps")
    at = np.array(seconds) - seconds[0]
    return Arrivals(np.rint(at * 1e9).astype(np.int64), np.zeros(len(at), dtype=np.int64), float(at[-1]))


def _append_timestamp(seconds: list[float], row: Sequence[str], *, is_first: bool) -> None:
    if not row or not row[0].strip():
        return
    try:
        value = float(row[0])
    except ValueError:
        if is_first:  # a header
            return
        raise
    if not math.isfinite(value) or (seconds and value < seconds[-1]):
        raise ValueError(f"{row[0]} is not finite or comes before the timestamp above it")
    seconds.append(value)
