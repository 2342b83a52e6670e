"""The demand on the engine, as estimated from the requests offered of late."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Demand:
    """Engine time asked for per unit of time, at each rung of a ladder.

    An exponentially forgetting average: a request offered t ago counts ``exp(-t / memory) / memory``.  Until one
    `memory` has passed since the first request, the weights are divided by what they add up to so far.
    """

    def __init__(self, rungs: int, memory_ns: float) -> None:
        self._sum = np.zeros(rungs)
        self._memory_ns = memory_ns
        self._last_ns: int | None = None
        self._first_ns = 0

    def observe(self, times_ns: FloatArray, now_ns: int) -> None:
        """A request that takes `times_ns`, ``[rungs]``, was offered."""
        if self._last_ns is None:
            self._first_ns = self._last_ns = now_ns
        elapsed = max(0, now_ns - self._last_ns)
        self._sum *= math.exp(-elapsed / self._memory_ns)
        self._sum += times_ns / self._memory_ns
        self._last_ns = max(now_ns, self._last_ns)

    def load(self, now_ns: int) -> FloatArray:
        """Engine time asked for per unit of time, ``[rungs]``; 1.0 is all that one engine has."""
        if self._last_ns is None:
            return self._sum
        faded = math.exp(-max(0, now_ns - self._last_ns) / self._memory_ns)
        seen = 1.0 - math.exp(-max(self._memory_ns / 4, now_ns - self._first_ns) / self._memory_ns)
        load: FloatArray = self._sum * (faded / seen)
        return load
