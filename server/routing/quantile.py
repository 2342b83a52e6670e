"""A quantile followed online: the promise that a stated share of ratios lies below it."""

from __future__ import annotations

import math


class QuantileTracker:
    """Follows the upper quantile of positive ratios, in logarithms, one ratio at a time.

    Adaptive conformal inference (Gibbs and Candès 2021, "Adaptive Conformal Inference Under Distribution Shift",
    section 2; here on the threshold itself, as in Angelopoulos et al. 2023, "Conformal PID Control", section 2):
    a ratio above the threshold lifts it by ``gain * (1 - miss)``, one below lowers it by ``gain * miss``.  Whatever
    the ratios are, while the threshold is between its bounds the share above it over n ratios differs from `miss` by at
    most ``(range of the log threshold + gain) / (gain * n)``; at the floor the share may be less, at the ceiling more.

    Attributes:
        value: the threshold now.
        count: ratios seen.
    """

    __slots__ = ("_ceiling", "_first", "_floor", "_gain", "_log", "_miss", "count", "value")

    def __init__(
        self, initial: float, *, miss: float, gain: float = 0.1, floor: float = 1.02, ceiling: float = 4.0
    ) -> None:
        """Start at `initial`.

        Args:
            initial: first threshold.
            miss: share of ratios that may lie above, in (0, 1).
            gain: of one ratio, in natural logarithms.
            floor: least threshold.
            ceiling: largest threshold.

        Raises:
            ValueError: a share outside (0, 1), or bounds that contradict each other.
        """
        if not 0.0 < miss < 1.0:
            raise ValueError(f"the share that may lie above must be in (0, 1), got {miss}")
        if not 0.0 < floor <= ceiling:
            raise ValueError(f"bounds must be positive and in order, got {floor} and {ceiling}")
        self._miss = miss
        self._gain = gain
        self._floor = math.log(floor)
        self._ceiling = math.log(ceiling)
        self._first = self._log = self._clamped(math.log(max(initial, floor)))
        self.value = math.exp(self._log)
        self.count = 0

    def observe(self, ratio: float) -> None:
        """Learn from one ratio; one that is not positive and finite counts as nothing seen."""
        if not (ratio > 0.0 and math.isfinite(ratio)):
            return
        step = 1.0 - self._miss if ratio > self.value else -self._miss
        self._log = self._clamped(self._log + self._gain * step)
        self.value = math.exp(self._log)
        self.count += 1

    def fade(self, share: float) -> None:
        """Keep only `share`, 0 to 1, of what was learned, in logarithms; the rest is the first threshold again."""
        self._log = self._first + (self._log - self._first) * share
        self.value = math.exp(self._log)

    def faded(self, share: float) -> float:
        """The threshold that `fade` would leave."""
        return self.value if share == 1.0 else math.exp(self._first + (self._log - self._first) * share)

    def _clamped(self, log: float) -> float:
        return min(max(log, self._floor), self._ceiling)
