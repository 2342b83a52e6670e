"""Time that the host takes away whatever is run: stalls, which add to a request and do not multiply it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque

_MOST = 4096


class Stalls:
    """What inferences and answers took beyond their prediction, and what to keep back for it.

    A hypervisor that gives the core to somebody else, or a core that changes its frequency, takes some tens of
    milliseconds from a short text as from a long one.  So the excess is kept in nanoseconds, common to all
    configurations, and counted per time at risk.  The record holds the last `_MOST` observations.

    A stall that is longer than everything there is to spare makes a request late under any configuration and whatever
    the load; to keep something back for it buys nothing.  So `allowance_ns` is the least ``s`` with

        (stalls in (s, spare]) / (time observed) x (time at risk)  <=  share

    What is late beyond that, `share` of all requests, could have been in time with more kept back; all other stalls
    could not be helped.  It is an order statistic of the record and not followed step by step as `QuantileTracker`
    does it: stalls are rare, what they are compared with differs from request to request, and a threshold that is
    lifted by each would climb without bound where more come than may be late.
    """

    def __init__(self, share: float) -> None:
        """Start with an empty record.

        Args:
            share: of requests that may be late by a stall for which something could have been kept back, in (0, 1).

        Raises:
            ValueError: a share outside (0, 1).
        """
        if not 0.0 < share < 1.0:
            raise ValueError(f"the share that may be late must be in (0, 1), got {share}")
        self._share = share
        self._record: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []  # those above 0
        self._at_risk_ns = 0.0

    def observe(self, excess_ns: float, at_risk_ns: float) -> None:
        """Something took `excess_ns` more than its upper quantile (0 or less: it did not), `at_risk_ns` in all."""
        if len(self._record) == _MOST:
            oldest, risked_ns = self._record.popleft()
            self._at_risk_ns -= risked_ns
            if oldest > 0.0:
                self._sorted.pop(bisect_left(self._sorted, oldest))
        self._record.append((excess_ns, at_risk_ns))
        self._at_risk_ns += at_risk_ns
        if excess_ns > 0.0:
            insort(self._sorted, excess_ns)

    def allowance_ns(self, spare_ns: float, at_risk_ns: float) -> float:
        """What a request should keep back; between 0 and `spare_ns`, and 0 if there is nothing to spare.

        Args:
            spare_ns: what it could keep back at most.
            at_risk_ns: how long a stall may hit it.
        """
        place = bisect_right(self._sorted, spare_ns)
        if place and at_risk_ns > 0.0:
            place -= int(self._share * self._at_risk_ns / at_risk_ns)
        return self._sorted[place - 1] if place > 0 else 0.0
