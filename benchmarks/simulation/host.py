"""How fast the host works when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Host:
    """Full speed until `slow_at_ns`, then `slow` times as long for everything.

    Work is measured in nanoseconds at full speed.
    """

    slow_at_ns: int | None = None
    slow: float = 2.0

    def end_ns(self, start_ns: int, work_ns: float) -> int:
        """When `work_ns` begun at `start_ns` is done."""
        if self.slow_at_ns is None:
            return start_ns + round(work_ns)
        fast = max(0.0, min(work_ns, float(self.slow_at_ns - start_ns)))
        return start_ns + round(fast + (work_ns - fast) * self.slow)

    def done_by(self, times_ns: ArrayLike) -> NDArray[np.float64]:
        """Work that the host can do from 0 to each of these times, nanoseconds, of their shape."""
        times = np.asarray(times_ns, dtype=np.float64)
        if self.slow_at_ns is None:
            return times
        return np.minimum(times, self.slow_at_ns) + np.maximum(0.0, times - self.slow_at_ns) / self.slow
