"""Which length configuration the request at the head of the queue gets: the one file to change for another policy.

`python -m benchmarks.simulate` shows what a change does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.routing.demand import Demand

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """What a policy may look at when a request is dispatched.  All times are float64 nanoseconds.

    ``C`` configurations, cheapest first; ``R`` rungs of the policy's ladder, cheapest first; ``K`` requests wait
    behind the head, earliest deadline first.

    Attributes:
        now_ns: of the dispatch.
        f1: held-out F1, ``[C]``.
        head_typical_ns: expected service time of the head, ``[C]``.
        head_upper_ns: its upper quantile, ``[C]``; what deadlines are checked against.
        head_slack_ns: deadline minus now; of a request without a budget, until it should be served.
        head_strict: whether the head has a budget that must be kept.
        head_rungs: the head's configuration at each rung, int64 ``[R]``.
        rest_ns: expected service times of those behind at each rung, ``[K, R]``.
        rest_excess: upper quantile over expectation, minus one, of those behind, ``[K]``.
        rest_slack_ns: like `head_slack_ns`, ``[K]``.
        rest_strict: like `head_strict`, ``[K]``.
        factor: what the profile's times were multiplied by for all of the above.
        ceiling: richest configuration that the load on the host allows to requests without a budget; index.
    """

    now_ns: int
    f1: FloatArray
    head_typical_ns: FloatArray
    head_upper_ns: FloatArray
    head_slack_ns: float
    head_strict: bool
    head_rungs: IntArray
    rest_ns: FloatArray
    rest_excess: FloatArray
    rest_slack_ns: FloatArray
    rest_strict: BoolArray
    factor: float
    ceiling: int

    def in_time(self) -> BoolArray:
        """Configurations under which the head keeps its own deadline, ``[C]``."""
        fits: BoolArray = self.head_upper_ns <= self.head_slack_ns
        return fits

    def rest_in_time(self, head_ns: FloatArray, head_excess_ns: FloatArray, rest_ns: FloatArray) -> BoolArray:
        """For each of ``N`` cases, whether everyone behind the head can still be in time.

        The times of all before somebody add up; what they may take beyond expectation adds up as the root of the
        sum of squares, for they are late independently of each other.

        Args:
            head_ns: the head's expected time, ``[N]``.
            head_excess_ns: its upper quantile minus that, ``[N]``.
            rest_ns: expected times of those behind, ``[K, N]``.
        """
        if not len(rest_ns):
            return np.ones(len(head_ns), dtype=np.bool_)
        ends = np.cumsum(rest_ns, axis=0) + head_ns
        spread = np.cumsum((rest_ns * self.rest_excess[:, None]) ** 2, axis=0) + head_excess_ns**2
        fits: BoolArray = np.all(ends + np.sqrt(spread) <= self.rest_slack_ns[:, None], axis=0)
        return fits


class Policy(Protocol):
    """Chooses a length configuration at dispatch.

    A policy sees each request through a *ladder*: rungs from cheap to dear, each with a configuration.
    """

    def ladder(self, base_ns: FloatArray) -> IntArray:
        """The configuration of a request at each rung, int64 ``[R]``; its times of the profile are ``[C]``."""

    def arrived(self, base_ns: FloatArray, now_ns: int) -> None:
        """A request was offered, whether it is then admitted or not."""

    def choose(self, view: View) -> int:
        """Index of the configuration for the head, 0 the cheapest.

        What cannot keep the head's deadline under any configuration gets the cheapest.
        """


class LookAhead:
    """The richest configuration that everyone who waits could have, too, in time.

    It looks at nobody who has not come yet, so it spends the slack of a full queue to the last bit.
    """

    def __init__(self, f1: FloatArray) -> None:
        self._rungs = np.arange(len(f1))

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """Each configuration is a rung."""
        return self._rungs

    def arrived(self, base_ns: FloatArray, now_ns: int) -> None:
        """Of no interest."""

    def choose(self, view: View) -> int:
        """See the class."""
        excess = view.head_upper_ns - view.head_typical_ns
        together = view.rest_in_time(view.head_typical_ns, excess, view.rest_ns) & view.in_time()
        return _richest(together)


class BacklogPrice:
    """A price on engine time, the same for everyone; each request takes what its F1 is worth at that price.

    A rung is a price: at price p a request takes the configuration with the largest ``F1 - p * time``.  So a long
    text, for which a point of F1 costs more time, steps down before a short one, which is the best use of the engine
    (equal marginal F1 per second: Lagrange multiplier of the engine's time).  The price is the lowest at which

    1. the head is in time, and all who wait, at the same price, are in time (the look-ahead), and
    2. what waits fits the mean slack, with what is expected to come (the forecast):
       ``backlog(p) <= slack * (1 + foresight * (1 - load(p)))``: at a load of 1 the backlog may fill the slack, beyond
       it less and less, below it more.
    """

    def __init__(
        self,
        f1: FloatArray,
        typical_ns: FloatArray,
        *,
        rungs: int = 24,
        foresight: float = 3.0,
        memory_ns: float = 1.0e9,
    ) -> None:
        """Lay out the prices.

        Args:
            f1: held-out F1 per configuration, cheapest first, ``[C]``.
            typical_ns: time of a request of mean length, ``[C]``.
            rungs: number of prices.
            foresight: weight of the forecast; 0 looks at nobody who has not come yet.
            memory_ns: for how long an arrival counts in the load.
        """
        self._f1 = np.maximum.accumulate(f1)
        self._prices = _prices(self._f1, typical_ns, rungs)
        self._foresight = foresight
        self._demand = Demand(rungs, memory_ns)

    def ladder(self, base_ns: FloatArray) -> IntArray:
        """The configuration of the largest F1 minus price x time, at each price."""
        worth = self._f1[None, :] - self._prices[:, None] * base_ns[None, :]
        rungs: IntArray = worth.argmax(axis=1)
        return rungs

    def arrived(self, base_ns: FloatArray, now_ns: int) -> None:
        """Count it into the demand."""
        self._demand.observe(base_ns[self.ladder(base_ns)], now_ns)

    def choose(self, view: View) -> int:
        """See the class."""
        typical = view.head_typical_ns[view.head_rungs]
        upper = view.head_upper_ns[view.head_rungs]
        in_time = upper <= view.head_slack_ns
        fits = view.rest_in_time(typical, upper - typical, view.rest_ns) & in_time
        backlog = typical + view.rest_ns.sum(axis=0)
        slack = (view.head_slack_ns + float(view.rest_slack_ns.sum())) / (1 + len(view.rest_slack_ns))
        load = self._demand.load(view.now_ns) * view.factor
        fits &= backlog <= max(0.0, slack) * np.maximum(0.0, 1.0 + self._foresight * (1.0 - load))
        rung = _richest(fits)
        return int(view.head_rungs[rung]) if in_time[rung] else 0


def _richest(fits: BoolArray) -> int:
    """Index of the last True; 0 if there is none."""
    found = np.flatnonzero(fits)
    return int(found[-1]) if len(found) else 0


def _prices(f1: FloatArray, typical_ns: FloatArray, rungs: int) -> FloatArray:
    """Prices in F1 per nanosecond, falling, from "everyone takes the cheapest" to 0, ``[rungs]``.

    Spread evenly in the logarithm over the slopes of the table at mean length, with room at both ends for shorter and
    longer texts; the first is beyond all of them, so that rung 0 is the cheapest configuration whatever the text.
    """
    gains, costs = np.diff(f1), np.diff(typical_ns)
    slopes = gains[(gains > 0) & (costs > 0)] / costs[(gains > 0) & (costs > 0)]
    if not len(slopes):
        return np.zeros(rungs)
    steep, flat = 8.0 * slopes.max(), slopes.min() / 8.0
    return np.concatenate(([1e9 * steep], np.geomspace(steep, flat, rungs - 2), [0.0]))
