"""Policies of other systems that choose again every ten seconds, from the load observed: Proteus and INFaaS.

Both look at what was offered since the last choice: how much engine time it would have taken under each configuration,
per unit of time, as the latency model predicts it.  Neither knows the load beforehand, so both start with the richest
configuration; the first interval is one second instead of ten, to their advantage.
"""

from __future__ import annotations

import numpy as np

from benchmarks.simulation.baselines import richest_within
from server.routing.policy import FloatArray, IntArray, Policy, View

INTERVAL_NS = 10_000_000_000
FIRST_INTERVAL_NS = 1_000_000_000


class LoadMeter:
    """Engine time asked for per unit of time and configuration, interval by interval.

    Attributes:
        factor: of the host's speed, as last seen at a dispatch (`View.factor`).
    """

    def __init__(self, configurations: int) -> None:
        self.factor = 1.0
        self._asked_ns = np.zeros(configurations)
        self._began_ns: int | None = None
        self._interval_ns = FIRST_INTERVAL_NS

    def arrived(self, base_ns: FloatArray, now_ns: int) -> FloatArray | None:
        """Count one request; the load ``[C]`` of the interval that it ends, if it ends one."""
        if self._began_ns is None:
            self._began_ns = now_ns
        elapsed, load = now_ns - self._began_ns, None
        if elapsed >= self._interval_ns:
            load = self._asked_ns * (self.factor / elapsed)
            self._asked_ns = np.zeros_like(self._asked_ns)
            self._began_ns, self._interval_ns = now_ns, INTERVAL_NS
        self._asked_ns = self._asked_ns + base_ns
        return load


class Proteus(Policy):
    """Accuracy scaling (Proteus, Ahmad et al., ASPLOS 2024): shares of variants, chosen again every ten seconds.

    Its optimiser maximises the mean accuracy subject to capacity for the observed demand, and may split the traffic
    between variants.  On one worker that is a mean of loads of at most 1; the best split is between two neighbours on
    the concave hull of F1 over load, or the cheapest alone.  Each request is given its variant at arrival, so that the
    shares hold as evenly as can be, and is admitted, or dropped from the queue, by the times of that variant, as
    Proteus drops what would be late.
    """

    def __init__(self, f1: FloatArray) -> None:
        """Start with the richest.

        Args:
            f1: held-out F1 per configuration, ``[C]``.
        """
        self._f1 = f1
        self._meter = LoadMeter(len(f1))
        self.shares: FloatArray = np.zeros(len(f1))
        self.shares[-1] = 1.0
        self._owed = np.zeros(len(f1))
        self._next = len(f1) - 1

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """The variant of the request that arrived last."""
        return np.array([self._next])

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:  # noqa: ARG002 - of no interest
        """Choose the shares again if it is time, and a variant for this request."""
        load = self._meter.arrived(base_ns, now_ns)
        if load is not None:
            self.shares = best_split(self._f1, load)
            self._owed = np.zeros(len(self._f1))
        self._owed += self.shares
        self._next = int(self._owed.argmax())
        self._owed[self._next] -= 1.0

    def choose(self, view: View) -> int:
        """The variant it was given at arrival."""
        self._meter.factor = view.factor
        return int(view.head_rungs[0])


def best_split(f1: FloatArray, load: FloatArray) -> FloatArray:
    """Shares of the configurations with the greatest mean F1 at a mean load of at most 1, ``[C]``.

    Args:
        f1: held-out F1, ``[C]``.
        load: of each configuration if it had all the traffic, ``[C]``.
    """
    shares = np.zeros(len(f1))
    best = int(np.where(load <= 1.0, f1, -np.inf).argmax())
    shares[best] = 1.0
    if not (load <= 1.0).any():
        shares[best], shares[0] = 0.0, 1.0
        return shares
    reached = float(f1[best])
    for low in np.flatnonzero(load <= 1.0):
        for high in np.flatnonzero(load > 1.0):
            part = float((1.0 - load[low]) / (load[high] - load[low]))
            mean = float((1.0 - part) * f1[low] + part * f1[high])
            if mean > reached:
                reached = mean
                shares = np.zeros(len(f1))
                shares[low], shares[high] = 1.0 - part, part
    return shares


class Infaas(Policy):
    """Variants re-chosen from the load (INFaaS, Romero et al., ATC 2021; InfAdapter is of this kind).

    Every ten seconds the richest variant with capacity for the observed load is loaded; each request then gets the
    richest variant up to that one that keeps its own latency objective (INFaaS chooses among the loaded variants by the
    request's objective; here all cheaper ones count as loaded, to its advantage).
    """

    def __init__(self, f1: FloatArray) -> None:
        """Start with the richest.

        Args:
            f1: held-out F1 per configuration, ``[C]``.
        """
        self._all = np.arange(len(f1))
        self._meter = LoadMeter(len(f1))
        self.most = len(f1) - 1

    def ladder(self, base_ns: FloatArray) -> IntArray:  # noqa: ARG002 - the same for all
        """Each configuration is a rung."""
        return self._all

    def arrived(self, base_ns: FloatArray, may_wait_ns: float, now_ns: int, *, busy: bool = True) -> None:  # noqa: ARG002 - of no interest
        """Choose again if it is time."""
        load = self._meter.arrived(base_ns, now_ns)
        if load is not None:
            self.most = richest_within(load, 1.0)

    def choose(self, view: View) -> int:
        """See the class."""
        self._meter.factor = view.factor
        if not view.head_strict:
            return self.most
        return richest_within(view.head_upper_ns[: self.most + 1], view.head_slack_ns)
