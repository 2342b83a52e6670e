"""Sums over requests: percentiles, shares with intervals, mean F1."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from loadtest.outcomes import Outcome, Reply

Document = dict[str, Any]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Judged:
    """One offered request and what became of it.

    Attributes:
        intended_s: when it was to be sent, from the beginning of the run.
        lag_ms: how much later its greenlet began.
        latency_ms: from the intended time to the last byte of the response (or to the failure).
        budget: label of its budget class.
        budget_ms: its budget; None without one.
        length: label of its length class.
        phase: name of its phase.
        outcome: the end that it came to.
        f1: of the answer against the gold answers, 0 to 1; 0 without an answer.
        reply: what came back.
    """

    intended_s: float
    lag_ms: float
    latency_ms: float
    budget: str
    budget_ms: float | None
    length: str
    phase: str
    outcome: Outcome
    f1: float
    reply: Reply

    @property
    def answered(self) -> bool:
        """With a 200, in time or not."""
        return self.outcome in (Outcome.SERVED_IN_BUDGET, Outcome.SERVED_LATE)

    @property
    def in_budget(self) -> bool:
        """What the service level objective asks for."""
        return self.outcome is Outcome.SERVED_IN_BUDGET

    @property
    def effective_f1(self) -> float:
        """F1 if the answer came in time, else 0."""
        return self.f1 if self.in_budget else 0.0


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed (nearest rank: always one observed).

    Raises:
        ValueError: there are no values.
    """
    if not ascending:
        raise ValueError("there is no percentile of nothing")
    rank = math.ceil(round(share * len(ascending), 9))  # 0.9 x 10 is 9, not a bit more
    return ascending[max(rank, 1) - 1]


def percentiles(values: Iterable[float]) -> Document:
    """``p50`` and so on, with ``mean`` and ``max``, unrounded; what is infinite (or of nothing) is None."""
    ascending = sorted(values)
    if not ascending:
        return dict.fromkeys([*PERCENTILES, "mean", "max"])
    found = {name: percentile(ascending, share) for name, share in PERCENTILES.items()}
    found |= {"mean": fmean(ascending), "max": ascending[-1]}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927), for independent trials; requests of one run are less than that."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, _Z_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(requests: Sequence[Judged], seconds: float) -> Document:
    """What is reported of a set of requests that were offered within `seconds`."""
    count = len(requests)
    hits = sum(each.in_budget for each in requests)
    answered = [each for each in requests if each.answered]
    expected = [each.reply.expected_f1 for each in answered if each.reply.expected_f1 is not None]
    counts = Counter(each.outcome for each in requests)
    return {
        "offered": count,
        "offered_rate": count / seconds,
        "slo_attainment": hits / count if count else None,
        "slo_attainment_interval": list(wilson(hits, count)),
        "goodput": hits / seconds,
        "effective_f1": _percent(each.effective_f1 for each in requests),
        "answered_f1": _percent(each.f1 for each in answered),
        "expected_f1": fmean(expected) if expected else None,
        "outcomes": {outcome.value: counts[outcome] for outcome in Outcome},
        "late_but_said_met": sum(
            each.outcome is Outcome.SERVED_LATE and each.reply.said_met is True for each in requests
        ),
        "latency_ms": percentiles(each.latency_ms for each in answered),
        "latency_of_all_ms": percentiles(each.latency_ms if each.answered else math.inf for each in requests),
        "latency_from_sending_ms": percentiles(each.latency_ms - each.lag_ms for each in answered),
        "server_ms": percentiles(each.reply.server_ms for each in answered if each.reply.server_ms is not None),
    }


def drift(requests: Sequence[Judged]) -> float | None:
    """Median latency of the last quarter of the answered requests over that of the first; None below 40 of them."""
    answered = sorted((each for each in requests if each.answered), key=lambda each: each.intended_s)
    quarter = len(answered) // 4
    if quarter < 10:
        return None
    first, last = (
        percentile(sorted(each.latency_ms for each in part), 0.5) for part in (answered[:quarter], answered[-quarter:])
    )
    return last / first


def grouped(requests: Sequence[Judged], attribute: str) -> Mapping[str, list[Judged]]:
    """Requests by the value of a field, in the order in which values first occur."""
    groups: dict[str, list[Judged]] = {}
    for each in requests:
        groups.setdefault(getattr(each, attribute), []).append(each)
    return groups


def _percent(values: Iterable[float]) -> float | None:
    found = list(values)
    return 100.0 * fmean(found) if found else None
