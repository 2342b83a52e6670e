"""What was measured: one run, and one scenario; and the judgement of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.bisection import Found
from loadtest.client import reply_of
from loadtest.driver import Played
from loadtest.figures import Document, Judged, percentile, percentiles, summary
from loadtest.mixes import Ask, Budget
from loadtest.outcomes import outcome_of
from loadtest.scenario import Scenario
from reading import f1


class VoidError(Exception):
    """A measurement that says nothing, as the generator could not keep its times."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What rates and budgets may be relative to.

    Attributes:
        rate: answers per second of the configuration full, with several in flight.
        idle_full_ms: median latency of it with one in flight.
    """

    rate: float
    idle_full_ms: float


@dataclass(frozen=True, slots=True)
class Run:
    """Requests that were offered, by intended time.

    Attributes:
        requests: what became of each.
        seconds: how long they came.
        rate: what the search multiplied the rates by; 1 without a search.
    """

    requests: tuple[Judged, ...]
    seconds: float
    rate: float = 1.0

    @property
    def lag_ms(self) -> Document:
        """Percentiles of the generator's lag."""
        return percentiles(each.lag_ms for each in self.requests)

    @property
    def lag_p99_ms(self) -> float:
        """0 without requests."""
        return percentile(sorted(each.lag_ms for each in self.requests), 0.99) if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario that was run.

    Attributes:
        scenario: what was asked for.
        server: what ``/info`` says.
        capacity: if it was needed.
        budgets: as they were.
        run: the run to report: of a search, the last one that passed, else the last one.
        found: of a search.
        probes: figures of every run of a search.
        opened: connections opened.
    """

    scenario: Scenario
    server: Document
    capacity: Capacity | None
    budgets: tuple[Budget, ...]
    run: Run
    found: Found | None
    probes: tuple[Document, ...]
    opened: int


def judge(played: Played, ask: Ask, phase: str) -> Judged:
    """What became of a request that was made."""
    reply = reply_of(played.exchange)
    latency_ms = (played.ended_ns - played.intended_ns) / 1e6
    answer = reply.answer
    return Judged(
        intended_s=played.intended_ns / 1e9,
        lag_ms=(played.began_ns - played.intended_ns) / 1e6,
        latency_ms=latency_ms,
        budget=ask.budget.label,
        budget_ms=ask.budget.ms,
        length=ask.length,
        phase=phase,
        outcome=outcome_of(reply, latency_ms, ask.budget.ms),
        f1=0.0 if answer is None else max(f1(answer, gold) for gold in {each.text for each in ask.record.answers}),
        reply=replace(reply, answer=None),  # scored: a long run need not keep it
    )


def end_s(requests: Sequence[Judged]) -> float:
    """When the last response was there, in seconds since the beginning; 0 without requests."""
    return max((each.intended_s + each.latency_ms / 1e3 for each in requests), default=0.0)


def probe_document(run: Run, *, passed: bool) -> Document:
    """Figures of one run of a search."""
    figures = summary(run.requests, run.seconds)
    kept = ("offered", "offered_rate", "slo_attainment", "slo_attainment_interval", "goodput", "effective_f1")
    return {"multiplier": run.rate, "passed": passed} | {name: figures[name] for name in kept}
