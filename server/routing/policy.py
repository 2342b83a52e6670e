"""Which length configuration the request at the head of the queue gets: the one file to change for another policy.

`python -m benchmarks.simulate` shows what a change does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from server.routing.demand import Demand, Hurry
from server.routing.view import BoolArray, FloatArray, IntArray, View

__all__ = ["BacklogPrice", "BoolArray", "FloatArray", "IntArray", "LookAhead", "Policy", "View"]

_NEARLY = 0.97


class Policy(Protocol):
    """Chooses a length configuration at dispatch.

    A policy sees each request through a *ladder*: rungs from cheap to dear, each with a configuration.
    """

    def ladder(self, base_ns: FloatArray) -> IntArray:
        """The configuration of a request at each rung, int64 ``[R]``; its times of the profile are ``[C]``."""

    @property
    def floor(self) -> int:
        """The rung at which everyone must be in time for one more to be admitted; by default the cheapest."""
        return 0

    def spares(self, factor: float) -> bool:  # noqa: ARG002 - the same for all
        """Whether one that would be late at the floor may be admitted at the cheapest rung, the others at the floor.

        Args:
            factor: what the profile's times are multiplied by to be expected now.
        """
        return False

    def share_of_wait(self, configuration: int, base_ns: float, factor: float) -> float:  # noqa: ARG002 - the same for all
        """How much of the time that it could wait a request may find taken when it is admitted, 0 to 1.

        Args:
            configuration: that it would have at the floor.
            base_ns: its time of the profile there.
            factor: what the profile's times are multiplied by to be expected now.
        """
        return 1.0

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """A request was offered, whether it is then admitted or not.

        Args:
            base_ns: its times of the profile, ``[C]``.
            may_wait_ns: how long the engine may let it wait, so that its cheapest configuration is still in time;
                infinite without a budget, negative if it is too late already.
            now_ns: of the offer.
            busy: whether the engine ran, or somebody waited.
        """

    def started(self, expected_ns: float, now_ns: int) -> None:
        """An inference that is expected to take so long has begun, whoever chose its configuration."""
        del expected_ns, now_ns  # of no interest by default

    def choose(self, view: View) -> int:
        """Index of the configuration for the head, 0 the cheapest.

        What cannot keep the head's deadline under any configuration gets the cheapest.
        """


class LookAhead(Policy):
    """The richest configuration that everyone who waits could have, too, in time.

    It looks at nobody who has not come yet, so it spends the slack of a full queue to the last bit.
    """

    def __init__(self, f1: FloatArray) -> None:
        self._rungs = np.arange(len(f1))
        self._last = 0

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """Each configuration is a rung."""
        return self._rungs

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """Of no interest."""

    def choose(self, view: View) -> int:
        """See the class."""
        in_time, rest_in_time = view.in_time(), view.rest_in_time()
        self._last = _last_that_fits(
            lambda rung: bool(in_time[rung]) and rest_in_time(rung, rung), len(in_time), self._last
        )
        return self._last


class BacklogPrice(Policy):
    """A price on engine time, the same for everyone; each request takes what its F1 is worth at that price.

    A rung is a price: at price p a request takes the configuration with the largest ``F1 - p * time``.  So a long
    text, for which a point of F1 costs more time, steps down before a short one, which is the best use of the engine
    (equal marginal F1 per second: Lagrange multiplier of the engine's time).  The price is the lowest at which

    1. the head is in time, and all who wait, at the same price, are in time (the look-ahead), and
    2. what waits fits the mean slack, with what is expected to come (the forecast):
       ``backlog(p) <= slack * (1 + foresight * (1 - load(p)))``: at a load of 1 the backlog may fill the slack, beyond
       it less and less, below it more.

    Of the configurations up to the one at that price, the head gets the one with the largest F1 less what it costs
    others: an inference is not interrupted, so whoever comes meanwhile and cannot wait for its end is refused.  Each
    request expected to be refused counts as the F1 lost of the configuration at the floor.

    Refusing is a choice, too, of F1 minus `refusal_cost` and no time.  The *floor* is the dearest price at which a
    request of mean length still gets nearly the most F1 per second.  A dearer price buys nothing: one answer more, at
    the expense of F1 elsewhere that is worth more.  So admission reckons with the floor, unless the engine has time to
    spare, and no price above it is asked but to keep a promise.

    A long text has less F1 per second than a short one.  When not all can be served, those with the most should be: a
    text with a share w < 1 of the best F1 per second at mean length may only use ``w ** min(1, 4 load ** 4)`` of the
    time that it could wait, load at the floor.  So the longest are refused first as a queue grows, and nobody on an
    idle engine.
    """

    def __init__(  # noqa: PLR0913 - what there is to choose from, then what to tune
        self,
        f1: FloatArray,
        typical_ns: FloatArray,
        *,
        rungs: int = 32,
        foresight: float = 1.5,
        memory: float = 40.0,
        refusal_cost: float = 0.0,
    ) -> None:
        """Lay out the prices.

        Args:
            f1: held-out F1 per configuration, cheapest first, ``[C]``.
            typical_ns: time of a request of mean length, ``[C]``.
            rungs: number of prices.
            foresight: weight of the forecast; 0 looks at nobody who has not come yet.
            memory: for how long an arrival counts in the load, in times of the dearest configuration.
            refusal_cost: points of F1 that a refusal costs beyond the answer.  0 makes the most of the F1 over all
                requests, a refusal counting 0; 100 answers as many as can be, however badly.
        """
        self._f1 = np.maximum.accumulate(f1)
        self._refusal_cost = refusal_cost
        worth = (self._f1 + refusal_cost) / typical_ns
        self._worth = float(worth.max())
        dear = np.geomspace(4.0 * self._worth, self._worth, 200)
        choices = (self._f1 - dear[:, None] * typical_ns).argmax(axis=1)
        nearly = int((worth[choices] >= _NEARLY * self._worth).argmax())
        prices = np.sort(np.append(_prices(self._f1, typical_ns, rungs - 1), dear[nearly]))[::-1]
        self._prices = prices[:, None]
        self._floor = int((prices > dear[nearly]).sum())
        self._lost = float(self._f1[choices[nearly]])
        self._foresight = foresight
        self._seen: tuple[FloatArray, IntArray] = (np.zeros(0), np.zeros(0, dtype=np.int64))  # asked for twice in a row
        memory_ns = memory * float(typical_ns[-1])
        self._demand = Demand(rungs, memory_ns)
        self._hurry = Hurry(memory_ns * 4)
        self._last = 0

    def ladder(self, base_ns: FloatArray) -> IntArray:
        """The configuration of the largest F1 minus price x time, at each price."""
        if base_ns is self._seen[0]:
            return self._seen[1]
        cost = self._prices * base_ns
        rungs: IntArray = (self._f1 - cost).argmax(axis=1)
        self._seen = (base_ns, rungs)
        return rungs

    @property
    def floor(self) -> int:
        """See the class."""
        return self._floor

    def spares(self, factor: float) -> bool:
        """Whether the engine has more time than is asked for at the floor."""
        return self._demand.load(self._floor) * factor <= 1.0

    def share_of_wait(self, configuration: int, base_ns: float, factor: float) -> float:
        """See the class."""
        worth = (float(self._f1[configuration]) + self._refusal_cost) / base_ns / self._worth
        if worth >= 1.0:
            return 1.0
        load = self._demand.load(self._floor) * factor
        return float(worth ** min(1.0, 4.0 * load**4))

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """Count it into the demand, and into the hurry if it found the engine busy."""
        self._demand.observe(base_ns[self.ladder(base_ns)], now_ns, busy=busy)
        if busy:
            self._hurry.observe(may_wait_ns, now_ns)

    def started(self, expected_ns: float, now_ns: int) -> None:
        """Count it as time that the engine is busy."""
        self._hurry.busy(expected_ns, now_ns)
        self._demand.busy(expected_ns, now_ns)

    def choose(self, view: View) -> int:
        """See the class."""
        self._last = _last_that_fits(self._fits(view), len(self._prices), self._last)
        richest = int(view.head_rungs[self._last])
        if self._last < self._floor:
            richest = self._beyond(view, richest)
        refused = self._hurry.refused_by(view.head_part_ns[: richest + 1], view.now_ns)
        if not np.count_nonzero(refused):
            return richest
        return int((self._f1[: richest + 1] - refused * self._lost).argmax())

    def _fits(self, view: View) -> Callable[[int], bool]:
        """Whether a rung keeps the head and all who wait in time, and is within the forecast."""
        counts = view.rest_counts.astype(np.float64)
        slack = view.head_slack_ns + float(counts @ view.rest_slack_ns)
        slack = max(0.0, slack) / (1 + int(np.count_nonzero(view.rest_counts))) / view.factor  # as the backlog
        in_time, rest_in_time = view.in_time(), view.rest_in_time()

        def fits(rung: int) -> bool:
            configuration = int(view.head_rungs[rung])
            if not in_time[configuration]:
                return False
            if rung > self._floor:  # a promise may need more, a forecast does not
                own = float(view.head_typical_ns[configuration]) / view.factor
                room = 1.0 + self._foresight * (1.0 - self._demand.load(rung, own) * view.factor)
                if own + float(counts @ view.rest_base_ns[:, rung]) > room * slack:
                    return False
            return rest_in_time(rung, configuration)

        return fits

    def _beyond(self, view: View, cheapest: int) -> int:
        """The richest configuration in time up to that of the floor, the others at the floor; else `cheapest`.

        A ladder has only what is best at some price; between two of those, a deadline may hold another.
        """
        in_time, rest_in_time = view.in_time(), view.rest_in_time()
        for configuration in range(int(view.head_rungs[self._floor]), cheapest, -1):
            if in_time[configuration] and rest_in_time(self._floor, configuration):
                return configuration
        return cheapest


def _last_that_fits(fits: Callable[[int], bool], count: int, guess: int) -> int:
    """The last of `count` rungs that fits; the cheapest of all, 0, if none does.

    What fits at one rung does so at every cheaper one.  So strides that double, away from `guess`, and then halving
    find it; from one request to the next it seldom moves far.
    """
    low, high = 0, count  # all before `low` fit, none from `high` on
    probe, stride = min(guess, high - 1), 1
    while low < high:
        if fits(probe):
            low = probe + 1
            probe += stride
        else:
            high = probe
            probe -= stride
        stride *= 2
        if not low <= probe < high:
            probe = (low + high) // 2
    return max(0, low - 1)


def _prices(f1: FloatArray, typical_ns: FloatArray, rungs: int) -> FloatArray:
    """Prices in F1 per nanosecond, falling, from "everyone takes the cheapest" to 0, ``[rungs]``.

    Spread evenly in the logarithm over the slopes of the table at mean length, with room at both ends for shorter and
    longer texts; the first is beyond all of them, so that rung 0 is the cheapest configuration whatever the text.
    """
    gains, costs = np.diff(f1), np.diff(typical_ns)
    slopes = gains[(gains > 0) & (costs > 0)] / costs[(gains > 0) & (costs > 0)]
    if not len(slopes):
        return np.zeros(rungs)
    steep, flat = 8.0 * slopes.max(), slopes.min() / 64.0  # from texts of an eighth to those of 64 times the length
    return np.concatenate(([1e9 * steep], np.geomspace(steep, flat, rungs - 2), [0.0]))
