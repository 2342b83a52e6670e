"""The slow loop's one parameter: how far the profile as a whole is off, as the fleet sees it."""

from __future__ import annotations

import math


class Trim:
    """A factor on all times of the profile, moved slowly toward the fleet's median of observed / profile.

    The fast loop keeps a scale relative to ``trim * profile``: the trim is where that scale returns to when traffic
    pauses, and what a process starts from.  Each update with a sound reading does::

        log trim  <-  log trim + gain (log median - log trim),  then into [low, high]

    so a drift's remainder shrinks by ``1 - gain`` per update: with a gain of 0.3, a drift of 1.6 is met within 10%
    after five.

    The two loops cannot fight: the median is of observed time over the *untrimmed* profile, so neither trim nor scale
    moves what is measured here, and this loop alone is a plain low-pass filter, stable for every gain up to 1.

    Beyond ``[low, high]`` the trim stays at the bound and the fast loop's scale carries what is missing: a host that
    is more than twice as slow or as fast as its profile should be measured again, not trimmed (`at_bound`).

    Attributes:
        value: the trim, 1 at first.
        updated_ns: of the last update that moved it; None before.
    """

    def __init__(self, *, gain: float = 0.3, low: float = 0.5, high: float = 2.0, least_samples: float = 100) -> None:
        """Start at 1.

        Args:
            gain: share of the way that one update goes, over 0 and at most 1.
            low: least trim, over 0 and at most 1.
            high: greatest trim, at least 1.
            least_samples: observations in the reading's window below which it is not believed.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 < gain <= 1 or not 0 < low <= 1 <= high < math.inf or not least_samples >= 0:
            raise ValueError("0 < gain <= 1, 0 < low <= 1 <= high and least_samples >= 0 must hold")
        self._gain = gain
        self._low = low
        self._high = high
        self._least_samples = least_samples
        self.value = 1.0
        self.updated_ns: int | None = None

    @property
    def at_bound(self) -> bool:
        """Whether the trim can go no further in one direction."""
        return self.value in {self._low, self._high}

    def believes(self, fleet_median: float | None, samples: float) -> bool:
        """Whether a reading is sound: a positive finite median of enough observations."""
        enough = math.isfinite(samples) and samples >= self._least_samples
        return enough and fleet_median is not None and math.isfinite(fleet_median) and fleet_median > 0

    def update(self, fleet_median: float | None, samples: float, now_ns: int) -> float:
        """The trim after a reading; one that is not sound, or older than the last one, changes nothing.

        Args:
            fleet_median: median of observed / untrimmed profile time over the fleet; None where it is not known.
            samples: observations behind it.
            now_ns: of the reading, monotonic.
        """
        late = self.updated_ns is not None and now_ns <= self.updated_ns
        if fleet_median is None or late or not self.believes(fleet_median, samples):
            return self.value
        moved = self.value * (fleet_median / self.value) ** self._gain
        self.value = min(self._high, max(self._low, moved))
        self.updated_ns = now_ns
        return self.value
