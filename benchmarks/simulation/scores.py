"""From what became of the requests to the figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulation.loop import Ends
from benchmarks.simulation.trace import SECOND_NS, Trace
from benchmarks.simulation.world import FloatArray, World
from server.routing.outcomes import Outcome
from server.routing.policy import BoolArray

REFUSED = frozenset({Outcome.REJECTED_INFEASIBLE, Outcome.REJECTED_OVERLOAD})
LATE = frozenset({Outcome.SERVED_LATE, Outcome.EXPIRED_IN_QUEUE, Outcome.FAILED})

SETTLING_SECONDS = 10.0
"""After the host has slowed down."""

SETTLED_SECONDS = 30.0


@dataclass(frozen=True)
class Scores:
    """The figures of one run.

    Attributes:
        effective_f1: mean over all offered requests of the served configuration's held-out F1, percent; 0 for those not
            served, or served late.
        slo_attainment: share of all offered that were served in time, percent; without a budget always in time.
        late_share: served late, expired or failed, of those admitted, percent.
        goodput: answers in time per second of the trace.
        late_by_class: the late share of each budget class.
        late_settling: the late share of those that arrive within `SETTLING_SECONDS` of the host's change.
        late_settled: the same from `SETTLED_SECONDS` on.
        step_goodput: answers in time within the step, percent of what the cheapest configuration could do without a
            pause; where fewer come in it than that, the share of these that are answered in time.
        outcomes: how many of each.
        f1_by_second: sum of effective F1 over the requests that arrived in each second.
        offered_by_second: how many arrived.
    """

    effective_f1: float
    slo_attainment: float
    late_share: float
    goodput: float
    late_by_class: dict[str, float] = field(default_factory=dict)
    late_settling: float | None = None
    late_settled: float | None = None
    step_goodput: float | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    f1_by_second: tuple[float, ...] = ()
    offered_by_second: tuple[int, ...] = ()


def score(trace: Trace, ends: Ends, world: World) -> Scores:
    """The figures of one run; of an empty trace all are 0."""
    served = np.array([each is Outcome.SERVED_IN_BUDGET for each in ends.outcome], dtype=np.bool_)
    admitted = np.array([each not in REFUSED for each in ends.outcome], dtype=np.bool_)
    late = np.array([each in LATE for each in ends.outcome], dtype=np.bool_)
    f1 = np.where(served, world.f1[ends.configuration], 0.0)
    seconds = trace.seconds_of_arrival
    slots = int(np.ceil(trace.seconds))
    place = np.minimum(seconds.astype(np.int64), slots - 1)
    settling = settled = None
    if trace.host.slow_at_ns is not None and trace.host.slow_at_ns < trace.seconds * SECOND_NS:
        since = seconds - trace.host.slow_at_ns / SECOND_NS
        settling = percent(late, admitted & (since >= 0) & (since < SETTLING_SECONDS))
        settled = percent(late, admitted & (since >= SETTLED_SECONDS))
    return Scores(
        effective_f1=float(f1.mean()) if len(trace) else 0.0,
        slo_attainment=percent(served, np.ones_like(served)),
        late_share=percent(late, admitted),
        goodput=float(served.sum()) / trace.seconds,
        late_by_class={
            label: percent(late, admitted & (trace.group == index)) for index, label in enumerate(trace.labels)
        },
        late_settling=settling,
        late_settled=settled,
        step_goodput=_step_goodput(trace, ends, served, world),
        outcomes=dict(Counter(str(each) for each in ends.outcome)),
        f1_by_second=tuple(np.bincount(place, weights=f1, minlength=slots).tolist()),
        offered_by_second=tuple(np.bincount(place, minlength=slots).tolist()),
    )


def percent(which: BoolArray, among: BoolArray) -> float:
    """Share of `which` among `among`, ``[n]`` both, percent; 0 of nobody."""
    count = int(among.sum())
    return 100.0 * float((which & among).sum()) / count if count else 0.0


def _step_goodput(trace: Trace, ends: Ends, served: BoolArray, world: World) -> float | None:
    if trace.step is None or trace.step[1] > trace.seconds:
        return None
    begin, end = trace.step
    answered: FloatArray = ends.answered_ns / SECOND_NS
    came = (trace.seconds_of_arrival >= begin) & (trace.seconds_of_arrival < end)
    most = (end - begin) * 1e9 / float(world.mean_inference_ns[0])
    if came.sum() < most:
        return percent(served, came) if came.any() else None
    return 100.0 * float((served & (answered >= begin) & (answered < end)).sum()) / most
