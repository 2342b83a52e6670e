"""How rich an answer may be for requests without a budget, by how much of the CPUs others take."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence

SECOND_NS = 1_000_000_000


class LoadFollower:
    """Follows CPU pressure with a ceiling: the richest configuration that requests without a budget may get.

    **Formula.**  With cost ``c[i]`` of configuration ``i`` relative to the full one and pressure ``p``, the share of
    CPU capacity that is not to be had, configuration ``i`` fits if ``c[i] <= 1 - p``: it is then ready in the time that
    the full one needs on idle CPUs.  Written as a limit on the pressure::

        limit[i] = max(1 - c[i], quiet)     limit[0] = 1     fit(p) = the largest i with p <= limit[i]

    Pressure up to ``quiet`` (0.15) is what any host has, and cheapens nothing.

    **Smoothing.**  ``m`` is the median of the pressure over the last ``window_ns`` (1 s), each value weighing as long
    as the time since the update before it; time before the first update counts as idle.  What lasts no longer than half
    of the window does not move ``m``, however high it is: a spike of 0.3 s passes unseen if updates come every 0.1 s.

    **States.**  The ceiling is the only state that lasts.  At each update::

        cheaper:  ceiling > fit(m)                                      -> fit(m)
        richer:   ceiling < fit(max of m over hold_ns + dead_band)      -> that
        else      it stays

    and no change within ``pause_ns`` (1 s) of the last one.  The dead band is 0.05 of pressure: what cheapened the
    answers at ``m > limit[i]`` must fall to ``limit[i] - 0.05`` and stay there for ``hold_ns`` (2.5 s) before they
    become richer.  White noise around a limit therefore leads to the cheaper side and stays there, up to a standard
    deviation of 0.03 per update of 0.1 s; one of 0.1 changes the ceiling every 10 s at worst, at two limits 0.05 apart.

    **Times**, with updates every ``d``: a sudden load cheapens after ``window / 2 + d``, or ``+ pause`` if there was a
    change just before: 0.75 to 1.75 s at ``d`` = 0.25 s.  Its end enriches ``hold`` later than that: 3.25 to 4.25 s.

    **Weaknesses.**  Loads that come and go within half a second are ignored if idle for more than half of the time, and
    count in full if busy for more.  Between ``limit[i] - 0.05`` and ``limit[i]`` the ceiling depends on the past.  The
    costs are expectations on idle CPUs; what a load does to caches and memory shows in the latency model's scale, not
    here.  Configurations that save less than ``quiet`` are never a ceiling.
    """

    def __init__(  # noqa: PLR0913 - thresholds and times, each by name
        self,
        costs: Sequence[float],
        *,
        quiet: float = 0.15,
        dead_band: float = 0.05,
        window_ns: int = SECOND_NS,
        hold_ns: int = 5 * SECOND_NS // 2,
        pause_ns: int = SECOND_NS,
    ) -> None:
        """Start idle, with the richest.

        Args:
            costs: expected time of each configuration, cheapest first, not falling; only ratios to the last count.
            quiet: pressure that cheapens nothing, 0 to 1, more than `dead_band`.
            dead_band: how far below a limit the pressure must fall before answers become richer; 0 or more.
            window_ns: of the median.
            hold_ns: how long the pressure must have been low before answers become richer.
            pause_ns: least time between two changes.

        Raises:
            ValueError: no costs, costs that fall or are not positive and finite, or the rest out of range.
        """
        if not costs or not all(math.isfinite(cost) and cost > 0 for cost in costs):
            raise ValueError("costs must be given, positive and finite")
        if any(later < earlier for earlier, later in itertools.pairwise(costs)):
            raise ValueError("costs must not fall: cheapest first")
        if not 0 <= dead_band < quiet <= 1:
            raise ValueError("0 <= dead_band < quiet <= 1 must hold")
        if window_ns <= 0 or hold_ns < 0 or pause_ns < 0:
            raise ValueError("times must not be negative, and the window not 0")
        self._limits = [1.0, *(max(1 - cost / costs[-1], quiet) for cost in costs[1:])]
        self._dead_band = dead_band
        self._window_ns = window_ns
        self._hold_ns = hold_ns
        self._pause_ns = pause_ns
        self._recent: deque[tuple[int, int, float]] = deque()  # (begin, end, pressure) of intervals, oldest first
        self._highest: deque[tuple[int, float]] = deque()  # medians that no later one exceeds, falling
        self._updated_ns: int | None = None
        self._changed_ns: int | None = None
        self.ceiling = len(costs) - 1

    def update(self, pressure: float, now_ns: int) -> int:
        """The ceiling after a pressure that held from the update before until now.

        Args:
            pressure: 0 to 1, clamped to it; NaN counts as 0.  That of the first update held for no time at all.
            now_ns: monotonic; an update that does not come after the one before changes nothing.

        Returns:
            Index of the richest configuration allowed, 0 the cheapest.
        """
        if self._updated_ns is not None and now_ns <= self._updated_ns:
            return self.ceiling
        begin_ns = now_ns if self._updated_ns is None else self._updated_ns
        self._recent.append((begin_ns, now_ns, 0.0 if math.isnan(pressure) else min(1.0, max(0.0, pressure))))
        median = self._median(now_ns)
        highest = self._highest_median(median, now_ns)
        self._updated_ns = now_ns
        target = min(self.ceiling, self._fit(median))
        if target == self.ceiling:
            target = max(target, self._fit(highest + self._dead_band))
        if target != self.ceiling and (self._changed_ns is None or now_ns - self._changed_ns >= self._pause_ns):
            self.ceiling, self._changed_ns = target, now_ns
        return self.ceiling

    def _fit(self, pressure: float) -> int:
        """Richest configuration for this pressure; limits fall from configuration to configuration."""
        return max((index for index, limit in enumerate(self._limits) if pressure <= limit), default=0)

    def _median(self, now_ns: int) -> float:
        """Median over the window, weighted by time: the highest pressure exceeded or met for more than half of it."""
        start_ns = now_ns - self._window_ns
        while self._recent[0][1] <= start_ns:
            self._recent.popleft()
        above_ns = 0
        for begin_ns, end_ns, pressure in sorted(self._recent, key=lambda each: each[2], reverse=True):
            above_ns += end_ns - max(begin_ns, start_ns)
            if 2 * above_ns > self._window_ns:
                return pressure
        return 0.0

    def _highest_median(self, median: float, now_ns: int) -> float:
        """The highest median of the last `hold_ns`, this one included."""
        while self._highest and self._highest[-1][1] <= median:
            self._highest.pop()
        self._highest.append((now_ns, median))
        while self._highest[0][0] < now_ns - self._hold_ns:
            self._highest.popleft()
        return self._highest[0][1]
