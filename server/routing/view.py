"""What a policy may look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.routing.ends import latest_ends

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class View(NamedTuple):
    """What a policy may look at when a request is dispatched.  All times are float64 nanoseconds.

    ``C`` configurations, cheapest first; ``R`` rungs of the policy's ladder, cheapest first; ``K`` requests wait
    behind the head, earliest deadline first.

    Attributes:
        now_ns: of the dispatch.
        head_typical_ns: expected service time of the head, ``[C]``.
        head_upper_ns: its upper quantile, ``[C]``; what deadlines are checked against.
        head_slack_ns: deadline minus now; of a request without a budget, until it should be served.
        head_part_ns: of the head's expected service time, what runs without a break at most, ``[C]``.
        head_strict: whether the head has a budget that must be kept.
        head_rungs: the head's configuration at each rung, int64 ``[R]``.
        rest_base_ns: times of the profile of those behind at each rung, without `factor`, ``[K, R]``.
        rest_excess: upper quantile over expectation, minus one, of those behind, ``[K]``.
        rest_slack_ns: like `head_slack_ns`, ``[K]``.
        rest_counts: who of them is to be kept in time, ``[K]``: not those who would be late even if everyone, without
            the head, were as cheap as can be; and, behind a head with a budget, only those with one.
        factor: what the profile's times are multiplied by to be expected now.
    """

    now_ns: int
    head_typical_ns: FloatArray
    head_upper_ns: FloatArray
    head_slack_ns: float
    head_part_ns: FloatArray
    head_strict: bool
    head_rungs: IntArray
    rest_base_ns: FloatArray
    rest_excess: FloatArray
    rest_slack_ns: FloatArray
    rest_counts: BoolArray
    factor: float

    def in_time(self) -> BoolArray:
        """Configurations under which the head keeps its own deadline, ``[C]``."""
        fits: BoolArray = self.head_upper_ns <= self.head_slack_ns
        return fits

    def rest_in_time(self) -> Callable[[int, int], bool]:
        """Whether all who count can be in time at the rung given, behind a head of the configuration given.

        What holds, holds for cheaper ones, too.
        """
        upper_ns = np.maximum.accumulate(self.head_upper_ns)
        limits = self.rest_slack_ns / self.factor  # what follows is in times of the profile

        def in_time(rung: int, configuration: int) -> bool:
            head = float(self.head_typical_ns[configuration]) / self.factor
            beyond = float(upper_ns[configuration]) / self.factor - head
            ends = latest_ends(self.rest_base_ns[:, rung], self.rest_excess, head, beyond * beyond)
            late: BoolArray = ends > limits
            late &= self.rest_counts
            return not np.count_nonzero(late)

        return in_time if len(limits) else lambda *_: True
