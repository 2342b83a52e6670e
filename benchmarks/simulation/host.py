"""How fast the host works when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StallRate:
    """Stalls come independently of each other and of the work; their lengths are exponential.

    Attributes:
        per_second: how often one begins.
        mean_ms: of their lengths.

    Raises:
        ValueError: not positive, or stalled more than half of the time.
    """

    per_second: float
    mean_ms: float

    def __post_init__(self) -> None:
        if self.per_second <= 0.0 or self.mean_ms <= 0.0 or self.per_second * self.mean_ms > 500.0:
            raise ValueError(f"stalls must have a rate and a length, and leave half of the time, got {self}")

    def drawn(self, seconds: float, random: np.random.Generator) -> tuple[tuple[int, int], ...]:
        """Beginnings and lengths within so many seconds, nanoseconds; one ends before the next begins."""
        found, now = [], 0.0
        while (now := now + random.exponential(1.0 / self.per_second)) < seconds:
            length = random.exponential(self.mean_ms / 1e3)
            found.append((int(now * _SECOND_NS), max(1, int(length * _SECOND_NS))))
            now += length
        return tuple(found)


@dataclass(frozen=True)
class Host:
    """Full speed until `slow_at_ns`, then `slow` times as long for everything; and nothing at all during stalls.

    Work is measured in nanoseconds at full speed.

    Attributes:
        slow_at_ns: when it slows down; None never.
        slow: how much longer everything takes then.
        stalls: beginning and length of each, rising and without overlap.
    """

    slow_at_ns: int | None = None
    slow: float = 2.0
    stalls: tuple[tuple[int, int], ...] = ()

    def end_ns(self, start_ns: int, work_ns: float) -> int:
        """When `work_ns` begun at `start_ns` is done."""
        start_ns = self._awake(start_ns)
        if self.slow_at_ns is None:
            return self._clock(start_ns + round(work_ns))
        fast = max(0.0, min(work_ns, float(self._awake(self.slow_at_ns) - start_ns)))
        return self._clock(start_ns + round(fast + (work_ns - fast) * self.slow))

    def done_by(self, times_ns: ArrayLike) -> NDArray[np.float64]:
        """Work that the host can do from 0 to each of these times, nanoseconds, of their shape."""
        times = np.asarray(times_ns, dtype=np.float64)
        for begin, length in self.stalls[::-1]:
            times = np.where(times > begin, np.maximum(float(begin), times - length), times)
        if self.slow_at_ns is None:
            return times
        slow_at = self._awake(self.slow_at_ns)
        return np.minimum(times, slow_at) + np.maximum(0.0, times - slow_at) / self.slow

    @cached_property
    def _begins(self) -> tuple[list[int], list[int], list[int]]:
        """Beginnings by the clock, the same in time awake, and the stalled time before each and after all."""
        before = [0, *np.cumsum([length for _, length in self.stalls], dtype=np.int64).tolist()]
        begins = [begin for begin, _ in self.stalls]
        return begins, [begin - stalled for begin, stalled in zip(begins, before, strict=False)], before

    def _awake(self, clock_ns: int) -> int:
        """Time from 0 to `clock_ns` without stalls."""
        if not self.stalls:
            return clock_ns
        begins, awake, stalled = self._begins
        place = bisect_right(begins, clock_ns)
        return clock_ns if not place else max(awake[place - 1], clock_ns - stalled[place])

    def _clock(self, awake_ns: int) -> int:
        """The first moment with so much time awake before it."""
        if not self.stalls:
            return awake_ns
        _, awake, stalled = self._begins
        return awake_ns + stalled[bisect_left(awake, awake_ns)]
