"""Policies of other systems that decide per request: fixed, Clockwork, SlackFit, Clipper.

All run on this server's admission control, queue and latency model, so that nothing but the policy differs.  What a
policy may use is what its ladder names: admission reckons with the first rung, so one that only ever runs one
configuration is admitted to, and dropped from the queue, by the times of that one.  No baseline runs what its own
prediction says is late: it takes the cheapest configuration it has, as `Policy.choose` asks.
"""

from __future__ import annotations

import numpy as np

from server.routing.policy import FloatArray, IntArray, Policy, View

SLACKFIT_BUCKETS = 10
CLIPPER_STEP = 0.1
CLIPPER_BACKOFF = 0.9


class Fixed(Policy):
    """One configuration for everyone.

    This is Clockwork (Gujarati et al., OSDI 2020), too, on one worker with one model at batch 1: its times are
    predictable, what cannot make its deadline is refused or dropped before it runs, and the rest runs in order of
    the latest start.  Here the order is that of deadlines; with one model the two differ by the requests' own lengths.
    Clockwork does not choose models: ``clockwork`` runs full; ``clockwork_fit`` runs the richest configuration with
    enough capacity for the mean load of the trace, which it is told beforehand (`fitting`).
    """

    def __init__(self, configuration: int) -> None:
        self._only = np.array([configuration])

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """The one configuration."""
        return self._only

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """Of no interest."""

    def choose(self, view: View) -> int:  # noqa: ARG002 - the same for all
        """The one configuration."""
        return int(self._only[0])


def fitting(mean_times_ns: FloatArray, rate: float) -> int:
    """The richest configuration that can carry `rate` requests per second; the cheapest if none can.

    Args:
        mean_times_ns: mean time on the engine per configuration, ``[C]``.
        rate: requests per second.
    """
    carried = np.flatnonzero(mean_times_ns * rate <= 1e9)
    return int(carried[-1]) if len(carried) else 0


class SlackFit(Policy):
    """The slack of the most urgent request picks a latency bucket (SuperServe, Khare et al., NSDI 2025).

    Offline, SlackFit cuts the range of latencies of its control tuples (subnet, batch size) into even buckets and keeps
    the best tuple of each; online it takes the bucket just below the slack.  Here the batch is 1, so the tuples are
    the configurations and the best one below a bucket's upper edge is the richest.  The latencies are the upper
    quantiles predicted for this very request, so the buckets are laid out anew for each length, which is to its
    advantage: SuperServe has images of one size.  A request without a budget takes the richest.
    """

    def __init__(self, f1: FloatArray, buckets: int = SLACKFIT_BUCKETS) -> None:
        """Remember what there is.

        Args:
            f1: held-out F1 per configuration, ``[C]``.
            buckets: how many, at least 1.
        """
        self._all = np.arange(len(f1))
        self._buckets = buckets

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """Each configuration is a rung."""
        return self._all

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """Of no interest."""

    def choose(self, view: View) -> int:
        """See the class."""
        if not view.head_strict:
            return len(self._all) - 1
        latency = view.head_upper_ns
        edges = np.linspace(latency[0], latency[-1], self._buckets + 1)
        below = edges[edges <= view.head_slack_ns]
        return richest_within(latency, float(below[-1])) if len(below) else 0


class Clipper(Policy):
    """AIMD (Clipper, Crankshaw et al., NSDI 2017), over configurations in place of batch sizes.

    Clipper has one model, adds a fixed amount to the batch size while its latency objective is met and takes a tenth
    off when it is missed.  Batches are 1 here, so the level is a real-valued configuration index: the objective is met
    if the head, at the level's configuration, is in time; it then gains `CLIPPER_STEP`, else it is multiplied by
    `CLIPPER_BACKOFF`.  Requests without a budget leave the level alone.
    """

    def __init__(self, f1: FloatArray, step: float = CLIPPER_STEP, backoff: float = CLIPPER_BACKOFF) -> None:
        """Start at the richest.

        Args:
            f1: held-out F1 per configuration, ``[C]``.
            step: gained by each request in time.
            backoff: factor of each request that would be late.
        """
        self._all = np.arange(len(f1))
        self._step = step
        self._backoff = backoff
        self.level = float(len(f1) - 1)

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """Each configuration is a rung."""
        return self._all

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:
        """Of no interest."""

    def choose(self, view: View) -> int:
        """See the class."""
        if not view.head_strict:
            return int(self.level)
        if view.head_upper_ns[int(self.level)] <= view.head_slack_ns:
            chosen = int(self.level)
            self.level = min(self.level + self._step, float(len(self._all) - 1))
            return chosen
        self.level *= self._backoff
        return int(self.level) if view.head_upper_ns[int(self.level)] <= view.head_slack_ns else 0


def richest_within(latency_ns: FloatArray, limit_ns: float) -> int:
    """Index of the last of `latency_ns`, ``[C]``, that is at most `limit_ns`; 0 if none is."""
    found = np.flatnonzero(latency_ns <= limit_ns)
    return int(found[-1]) if len(found) else 0
