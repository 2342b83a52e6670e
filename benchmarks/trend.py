"""Does a series of memory readings grow?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GROWTH_MB = 5.0
"""Growth over the last half of a run that is taken for noise, in MB."""

_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class Trend:
    """Least-squares line through the last half of a run.

    Attributes:
        slope: MB per 1000 requests.
        standard_error: of the slope, in its unit, as if readings were independent; they are not quite, so
            it errs towards finding growth.
        growth: last reading less the first of that half, MB.
    """

    slope: float
    standard_error: float
    growth: float

    @property
    def is_growing(self) -> bool:
        """More than `GROWTH_MB` gained, and a slope more than two standard errors above zero."""
        return self.growth > GROWTH_MB and self.slope > _STANDARD_ERRORS * self.standard_error


def last_half_trend(requests: Sequence[int], memory_mb: Sequence[float]) -> Trend:
    """Trend of the readings taken from half of the requests on.

    Args:
        requests: ``[n]``, answered when each reading was taken, growing.
        memory_mb: ``[n]``, the readings in MB.

    Raises:
        ValueError: unequal lengths, requests that do not grow, or less than 3 readings in the last half.
    """
    counts, memory = np.asarray(requests, dtype=np.float64), np.asarray(memory_mb, dtype=np.float64)
    if counts.shape != memory.shape or (np.diff(counts) <= 0).any():
        raise ValueError("readings must go with growing numbers of requests, one each")
    late = counts >= counts[-1] / 2 if len(counts) else np.zeros(0, dtype=np.bool_)
    if late.sum() < 3:
        raise ValueError(f"a trend needs 3 readings in the last half of a run, there are {late.sum()}")
    thousands, values = counts[late] / 1000.0, memory[late]
    centred = thousands - thousands.mean()
    spread = float((centred**2).sum())
    slope = float((centred * values).sum()) / spread
    residuals = values - values.mean() - slope * centred
    variance = float((residuals**2).sum()) / (len(values) - 2)
    return Trend(slope, float(np.sqrt(variance / spread)), float(values[-1] - values[0]))
