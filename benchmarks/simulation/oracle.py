r"""An upper bound on what any policy can reach on a trace: ``oracle``.

The relaxation.  One engine that may interrupt work at any time at no cost; every request known beforehand with its true
times; it may be run from when it is tokenized until its answer would be too late.  And a request may be run for *any*
time y, for the F1 that the concave hull of (0, 0) and its configurations (time w_c, F1_c) has at y: a mixture of
configurations counts.  Every real policy, ours or another, that reads the future or not, does no more: it gives each
request the time of one configuration, or none, within the same limits.  (A request whose windows run under several
configurations counts with the cheapest, and takes at least its time.)

The bound.  Let g be that hull, x(p) the time at which its slope falls to p, that is the time of the configuration with
the greatest ``F1_c - p w_c`` (0 if all are negative), and h(p) that greatest value, or 0.  As g is concave,

    g(y) = integral over p >= 0 of min(y, x(p)) dp,   and   integral from a to b of x(p) dp = h(a) - h(b).

Take any set T of time.  All requests whose limits lie within T are run within T, so their y add up to at most ``|T|``;
each other one has ``min(y, x(p)) <= x(p)``.  So for *any* choice of a set T_k for each of the intervals (p_k, p_k+1)
that cut the prices from 0 to beyond the steepest slope,

    sum of F1 <= sum over k of ( |T_k| (p_k+1 - p_k)  +  sum of h(p_k) - h(p_k+1) over requests not within T_k ).

The bound holds whatever the sets are; they only decide how tight it is.  T_k is the best one for the middle of the
interval: run every request for x(p) by earliest deadline; when one runs out of time at its deadline d, T gains the time
from when the engine last was idle or ran something due after d, up to d.  What is lost is exactly the demand that T
cannot hold (a minimum cut), so as the prices get dense the bound falls to the optimum of the relaxation itself.

A host that changes its speed is taken at full speed all the time, with times measured in work done.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left

import numpy as np

from benchmarks.simulation.trace import NO_BUDGET, Trace
from benchmarks.simulation.world import FloatArray, World
from server.routing.policy import BoolArray

_NOTHING_NS = 0.01  # beneath the resolution of a float64 after days

PRICES = 40
"""Intervals of the price, about; five times as many lower the bound by about 0.005 points."""


def bound(trace: Trace, world: World, *, prices: int = PRICES) -> tuple[float, float]:
    """Upper bounds on effective F1 and on the share of requests served in time, both in percent.

    Two bounds, each for itself: no single schedule need reach both.
    """
    if not len(trace):
        return 0.0, 0.0
    release, due = limits(trace, world)
    times = true_times(trace, world)
    most_f1 = total_bound(release, due, times, world.f1, prices=prices) / len(trace)
    most_served = total_bound(release, due, times[:, :1], np.array([100.0]), prices=prices) / len(trace)
    return min(most_f1, float(world.f1.max())), min(most_served, 100.0)


def limits(trace: Trace, world: World) -> tuple[FloatArray, FloatArray]:
    """From when until when inference of each request may run, in work of the host, nanoseconds, ``[n]`` each.

    The end is infinite without a budget.
    """
    answers = np.array([world.answer_ns(len(each)) for each in trace.windows]) * trace.residual
    free = trace.budget_ns == NO_BUDGET
    due = trace.host.done_by(trace.arrival_ns + np.where(free, 0, trace.budget_ns)) - answers
    return trace.host.done_by(trace.ready_ns(world)), np.where(free, np.inf, due)


def true_times(trace: Trace, world: World) -> FloatArray:
    """What inference of each request takes under each configuration at full speed, nanoseconds, ``[n, C]``."""
    distinct = {windows: world.inference_ns(windows) for windows in set(trace.windows)}
    return np.stack([distinct[each] for each in trace.windows]) * trace.residual[:, None]


def total_bound(
    release: FloatArray, due: FloatArray, times: FloatArray, f1: FloatArray, *, prices: int = PRICES
) -> float:
    """Upper bound on the sum of F1; see the module.

    Args:
        release: from when a request may run, ``[n]``.
        due: until when, ``[n]``; may be infinite.
        times: what it takes, ``[n, C]``.
        f1: what it is worth, ``[C]``.
        prices: intervals of the price, about.
    """
    worth = np.where(times <= (due - release)[:, None], f1, -np.inf)  # not even alone
    order = np.argsort(release, kind="stable")
    release, due, times, worth = release[order], due[order], times[order], worth[order]
    edges = _edges(times, worth, prices)
    surplus, _ = _buys(0.0, times, worth)
    total = 0.0
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        _, demand = _buys((low + high) / 2, times, worth)
        starts, ends = overloaded(release, due, demand)
        left, _ = _buys(high, times, worth)
        outside = ~_within(release, due, starts, ends)
        total += float((ends - starts).sum()) * (high - low) + float((surplus - left)[outside].sum())
        surplus = left
    return total + float(surplus.sum())  # nothing, unless rounding left something above the last price


def _buys(price: float, times: FloatArray, worth: FloatArray) -> tuple[FloatArray, FloatArray]:
    """h(price) and x(price) of each request, ``[n]`` each."""
    gain = worth - price * times
    best = gain.argmax(axis=1)
    rows = np.arange(len(gain))
    most = gain[rows, best]
    return np.maximum(most, 0.0), np.where(most > 0.0, times[rows, best], 0.0)


def _edges(times: FloatArray, worth: FloatArray, prices: int) -> FloatArray:
    """Prices from 0 to the steepest slope: half of them where requests drop out, half where they step down."""
    possible = np.isfinite(worth)
    density = np.where(possible, worth, 0.0) / times
    out = density.max(axis=1)
    safe = np.where(possible, worth, 0.0)
    gain, cost = np.diff(safe, axis=1), np.diff(times, axis=1)
    steps = (gain / np.where(cost > 0, cost, np.inf))[possible[:, 1:]] if times.shape[1] > 1 else out
    at = np.linspace(0.0, 1.0, max(2, prices // 2))
    inner = np.concatenate([np.quantile(each[each > 0], at) for each in (out, steps) if (each > 0).any()] or [[]])
    return np.unique(np.concatenate([[0.0], inner, [float(out.max()) * (1 + 1e-9)]]))


def overloaded(release: FloatArray, due: FloatArray, demand: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where more is asked for than there is time: starts and ends of disjoint intervals, rising.

    Args:
        release: rising, ``[n]``.
        due: ``[n]``.
        demand: time asked for, ``[n]``.
    """
    asked = np.flatnonzero(demand > 0.0)
    jobs = list(zip(release[asked].tolist(), due[asked].tolist(), demand[asked].tolist(), strict=True))
    waiting: list[tuple[float, float]] = []
    found: list[tuple[float, float]] = []
    keys, since = [-np.inf], [0.0]  # minus due of what ran, and until when; later ones above, due falling
    now, coming = 0.0, 0
    while waiting or coming < len(jobs):
        if not waiting and jobs[coming][0] > now:
            now = jobs[coming][0]
            keys, since = [-np.inf], [now]
        while coming < len(jobs) and jobs[coming][0] <= now:
            heapq.heappush(waiting, (jobs[coming][1], jobs[coming][2]))
            coming += 1
        end, left = heapq.heappop(waiting)
        if end <= now:
            found.append((since[bisect_left(keys, -end) - 1], end))
            continue
        until = min(now + left, end, jobs[coming][0] if coming < len(jobs) else np.inf)
        while keys[-1] >= -end and len(keys) > 1:
            keys.pop()
            since.pop()
        keys.append(-end)
        since.append(until)
        left -= until - now
        now = until
        if left > _NOTHING_NS:
            heapq.heappush(waiting, (end, left))
    return _merged(found)


def _merged(found: list[tuple[float, float]]) -> tuple[FloatArray, FloatArray]:
    starts: list[float] = []
    ends: list[float] = []
    for start, end in sorted(found):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return np.array(starts), np.array(ends)


def _within(release: FloatArray, due: FloatArray, starts: FloatArray, ends: FloatArray) -> BoolArray:
    """Whether each request may run only within one of the intervals, ``[n]``."""
    if not len(starts):
        return np.zeros(len(release), dtype=np.bool_)
    place = np.searchsorted(starts, release, side="right") - 1
    inside: BoolArray = (place >= 0) & (due <= ends[np.maximum(place, 0)])
    return inside
