"""The demand on the engine, and how urgent it is, as estimated from the requests offered of late."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


_MOST_OF_ONE = 0.25


class Demand:
    """Engine time asked for per unit of time, at each rung of a ladder.

    An exponentially forgetting average: a request offered t ago counts ``exp(-t / memory) / memory``.  Until one
    `memory` has passed since the first request, the weights are divided by what they add up to so far.  A single
    request counts for at most a quarter of the memory: one long text is work, but no sign of more to come.
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
        self._sum += self._counted(times_ns) / self._memory_ns
        self._last_ns = max(now_ns, self._last_ns)

    def _counted(self, times_ns: FloatArray) -> FloatArray:
        return np.minimum(times_ns, _MOST_OF_ONE * self._memory_ns)

    def load(self, now_ns: int, without_ns: FloatArray | None = None) -> FloatArray:
        """Engine time asked for per unit of time, ``[rungs]``; 1.0 is all that one engine has.

        Args:
            now_ns: at least that of the last request.
            without_ns: times of one request among those observed that is not to count, ``[rungs]``.
        """
        if self._last_ns is None:
            return self._sum
        faded = math.exp(-max(0, now_ns - self._last_ns) / self._memory_ns)
        seen = 1.0 - math.exp(-max(self._memory_ns / 4, now_ns - self._first_ns) / self._memory_ns)
        own = 0.0 if without_ns is None else self._counted(without_ns) / self._memory_ns
        load: FloatArray = np.maximum(0.0, self._sum * faded - own) / seen
        return load


class Hurry:
    """How many requests would come, and could not wait, while one inference runs.

    Remembers how long each request offered of late could have waited.  A request that comes at a uniform time of an
    inference of length S, and may wait w, is refused if more than w is left: with probability ``max(0, S - w) / S``.
    Requests that come at a rate r are ``r S`` during it, so ``r max(0, S - w)`` are refused.
    """

    def __init__(self, memory_ns: float, most: int = 256) -> None:
        self._memory_ns = memory_ns
        self._offers: deque[tuple[int, float]] = deque(maxlen=most)  # (when, how long it may wait)
        self._first_ns: int | None = None

    def observe(self, may_wait_ns: float, now_ns: int) -> None:
        """A request was offered; one that is too late already, or has all the time, says nothing."""
        if self._first_ns is None:
            self._first_ns = now_ns
        if 0.0 <= may_wait_ns < math.inf:
            self._offers.append((now_ns, may_wait_ns))

    def refused_by(self, times_ns: FloatArray, now_ns: int) -> FloatArray:
        """Expected refusals by an inference of each of `times_ns`, ``[N]``."""
        longest = float(times_ns.max())
        since_ns = now_ns - self._memory_ns
        waits = [wait for when, wait in self._offers if when >= since_ns and wait < longest]
        if not waits or self._first_ns is None:
            return np.zeros(len(times_ns))
        full = len(self._offers) == self._offers.maxlen
        begun_ns = max(since_ns, self._offers[0][0] if full else self._first_ns)
        seen_ns = max(float(now_ns - begun_ns), self._memory_ns / 8)
        lost: FloatArray = np.maximum(0.0, times_ns[:, None] - np.array(waits)[None, :]).sum(axis=1) / seen_ns
        return lost
