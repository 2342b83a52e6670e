"""The demand on the engine, and how urgent it is, as estimated from the requests offered of late."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


_MOST_OF_ONE = 0.25
_NONE = np.zeros(0)


class Demand:
    """Engine time asked for per unit of time, at each rung of a ladder.

    Exponentially forgetting sums: what happened t ago counts ``exp(-t / memory)``.  The load is the smaller of two: of
    all requests per unit of time, and of those that found the engine busy per unit of busy time.  For independent
    callers the two are the same (Poisson arrivals see time averages).  Callers that send one request after the other
    never find it busy: they put nobody behind, however fast they are.  Bursts make the second the larger one.  A single
    request counts for at most a quarter of the memory: one long text is work, but no sign of more to come.
    """

    def __init__(self, rungs: int, memory_ns: float) -> None:
        self._asked = np.zeros((2, rungs))  # by all, and by those that found the engine busy
        self._busy = 0.0
        self._memory_ns = memory_ns
        self._last_ns: int | None = None

    def observe(self, times_ns: FloatArray, now_ns: int, *, busy: bool = True) -> None:
        """A request that takes `times_ns`, ``[rungs]``, was offered, while the engine was `busy` or not."""
        self._fade(now_ns)
        asked = self._asked if busy else self._asked[0]
        asked += self._counted(times_ns)

    def busy(self, expected_ns: float, now_ns: int) -> None:
        """An inference has begun."""
        self._fade(now_ns)
        self._busy += min(expected_ns, self._memory_ns)

    def load(self, rung: int, without_ns: float = 0.0) -> float:
        """Engine time asked for per unit of time at one rung; 1.0 is all that one engine has.

        Args:
            rung: at which everyone is.
            without_ns: time of one request among those observed that is not to count.
        """
        without_ns = min(without_ns, _MOST_OF_ONE * self._memory_ns)
        asked_ns, behind_ns = float(self._asked[0, rung]), float(self._asked[1, rung])
        return max(0.0, min((asked_ns - without_ns) / self._memory_ns, (behind_ns - without_ns) / self._busy_ns()))

    def _busy_ns(self) -> float:
        return min(max(self._busy, self._memory_ns / 8), self._memory_ns)

    def _counted(self, times_ns: FloatArray) -> FloatArray:
        most = _MOST_OF_ONE * self._memory_ns
        return times_ns if times_ns[-1] <= most else np.minimum(times_ns, most)  # a ladder's times do not fall

    def _fade(self, now_ns: int) -> None:
        if self._last_ns is not None and now_ns > self._last_ns:
            share = math.exp((self._last_ns - now_ns) / self._memory_ns)
            self._asked *= share
            self._busy *= share
        self._last_ns = now_ns


class Hurry:
    """How many requests come, and cannot wait, while one inference runs.

    Remembers how long each request that came while the engine was busy could have waited.  If such requests come at a
    rate r per unit of busy time, ``r S`` come during an inference of length S, at uniform times; one that may wait w
    is refused if more than w is left: ``r max(0, S - w)`` are.
    """

    def __init__(self, memory_ns: float, most: int = 256) -> None:
        self._memory_ns = memory_ns
        self._offers = _Ring(most)
        self._busy = _Ring(most)

    def observe(self, may_wait_ns: float, now_ns: int) -> None:
        """A request was offered; one that is too late already or has all the time says nothing."""
        if 0.0 <= may_wait_ns < math.inf:
            self._offers.add(now_ns, may_wait_ns)

    def busy(self, expected_ns: float, now_ns: int) -> None:
        """An inference has begun."""
        self._busy.add(now_ns, expected_ns)

    def refused_by(self, times_ns: FloatArray, now_ns: int) -> FloatArray:
        """Expected refusals by an inference of each of `times_ns`, ``[N]``."""
        # both over the same time
        since_ns = max(now_ns - self._memory_ns, self._offers.oldest_ns, self._busy.oldest_ns)
        waits = self._offers.since(since_ns, max(times_ns.tolist()))
        if not len(waits):
            return np.zeros(len(times_ns))
        busy_ns = max(float(np.add.reduce(self._busy.since(since_ns))), self._memory_ns / 16)
        over = times_ns[:, None] - waits
        lost: FloatArray = np.add.reduce(np.maximum(0.0, over, out=over), axis=1) / busy_ns
        return lost


class _Ring:
    """The last so many values with their times.

    Attributes:
        oldest_ns: when the oldest value kept was added, once older ones have been dropped; before, minus infinity.
    """

    __slots__ = ("_next", "_values", "_when", "oldest_ns")

    def __init__(self, most: int) -> None:
        self._when = np.full(most, -math.inf)
        self._values = np.full(most, math.inf)
        self._next = 0
        self.oldest_ns = -math.inf

    def add(self, now_ns: int, value: float) -> None:
        self._when[self._next] = now_ns
        self._values[self._next] = value
        self._next = (self._next + 1) % len(self._when)
        self.oldest_ns = float(self._when[self._next])

    def since(self, ns: float, below: float = math.inf) -> FloatArray:
        """Values less than `below` that were added at `ns` or later, in no order."""
        which = (self._values < below).nonzero()[0]
        return self._values[which[self._when[which] >= ns]] if len(which) else _NONE
