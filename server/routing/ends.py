"""When those who run one after the other end: the rule that admission and the policies share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def latest_ends(times: FloatArray, excess: FloatArray, before: float, squares: float) -> FloatArray:
    """When each ends, as an upper quantile, float64 ``[K]``, in the unit of `times`.

    The times of all up to it add up.  What they may take beyond adds up as the root of the sum of squares, for they are
    late independently of each other.

    Args:
        times: expected time of each, in their order, ``[K]``; at least one.
        excess: what each may take beyond, as a share of its time, ``[K]``.
        before: expected time of what runs before all of them.
        squares: of what that may take beyond.
    """
    beyond = times * excess
    beyond *= beyond
    beyond[0] += squares
    ends: FloatArray = np.add.accumulate(beyond)
    np.sqrt(ends, out=ends)
    ends += np.add.accumulate(times)
    ends += before
    return ends
