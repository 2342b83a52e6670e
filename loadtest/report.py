"""The document: everything that is known of a scenario that was run, ready for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from loadtest.figures import Document, Judged, drift, grouped, percentile, summary
from loadtest.limits import broken_limits, lag_verdict
from loadtest.runs import Result, Run
from loadtest.scenario import Scenario

SCHEMA_VERSION = 1
_MOST_BINS = 120
_MOST_FAILURES = 10


def document_of(result: Result) -> Document:
    """All figures of a scenario, its verdict included: ``passed`` is true if it is not void and breaks no limit."""
    run, scenario = result.run, result.scenario
    found: Document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.name,
        "about": scenario.about,
        **summary(run.requests, run.seconds),
        "seconds": run.seconds,
        "drift": drift(run.requests),
        "generator_lag_ms": run.lag_ms,
        "connections_opened": result.opened,
        "phases": _parts(run, "phase", _phase_seconds(result)),
        "budgets": _parts(run, "budget", {}),
        "lengths": _parts(run, "length", {}),
        "length_configs": dict(Counter(str(each.reply.configuration) for each in run.requests if each.answered)),
        "over_time": over_time(run.requests, run.seconds),
        "failures": _failures(run.requests),
        "search": _search(result),
        "capacity": None if result.capacity is None else _capacity(result),
        "budget_ms": {each.label: each.ms for each in result.budgets},
        "server": result.server,
        "definition": scenario.model_dump(mode="json"),
    }
    found["void"] = _void(scenario, found)
    found["broken"] = broken_limits(scenario.limits, found)
    found["passed"] = found["void"] is None and not found["broken"]
    return found


def over_time(requests: Sequence[Judged], seconds: float) -> Document:
    """Counts and medians in bins of intended time, at most 120 of them and none shorter than a second.

    Returns:
        ``bin_seconds``; ``outcomes`` and ``length_configs``, a list of counts per name; ``p50_ms`` and ``p99_ms`` of
        the answered, ``lag_p99_ms`` of all (None for a bin without any).
    """
    width = float(max(1, math.ceil(seconds / _MOST_BINS)))
    bins: list[list[Judged]] = [[] for _ in range(max(1, math.ceil(seconds / width)))]
    for each in requests:
        bins[min(int(each.intended_s / width), len(bins) - 1)].append(each)
    return {
        "bin_seconds": width,
        "outcomes": _counts([[each.outcome.value for each in part] for part in bins]),
        "length_configs": _counts([[str(each.reply.configuration) for each in part if each.answered] for part in bins]),
        "p50_ms": [_percentile([each.latency_ms for each in part if each.answered], 0.5) for part in bins],
        "p99_ms": [_percentile([each.latency_ms for each in part if each.answered], 0.99) for part in bins],
        "lag_p99_ms": [_percentile([each.lag_ms for each in part], 0.99) for part in bins],
    }


def summary_line(document: Mapping[str, object]) -> str:
    """The keys that matter most, for a terminal."""
    f1, attainment = document["effective_f1"], document["slo_attainment"]
    shown = {
        "offered": document["offered"],
        "slo_attainment": attainment,
        "effective_f1": f1,
        "goodput": document["goodput"],
        "outcomes": document["outcomes"],
        "void": document["void"],
        "broken": document["broken"],
    }
    return f"{document['scenario']}: " + ", ".join(f"{name} {value}" for name, value in shown.items() if value)


def _parts(run: Run, attribute: str, seconds: Mapping[str, float]) -> Document:
    parts = grouped(run.requests, attribute)
    return {name: summary(part, seconds.get(name, run.seconds)) for name, part in parts.items()}


def _phase_seconds(result: Result) -> dict[str, float]:
    arrivals = result.scenario.arrivals
    return {each.name: each.seconds for each in arrivals.phases} if arrivals is not None else {}


def _capacity(result: Result) -> Document:
    assert result.capacity is not None
    return {"rate": result.capacity.rate, "idle_full_ms": result.capacity.idle_full_ms}


def _search(result: Result) -> Document | None:
    """``rate`` in the unit of the scenario, ``offered_rate`` in requests per second; None if no rate passed."""
    if result.found is None:
        return None
    passed = result.found.rate is not None
    return {
        "rate": result.found.rate,
        "failed": result.found.failed,
        "settled": result.found.settled,
        "offered_rate": len(result.run.requests) / result.run.seconds if passed else None,
        "probes": list(result.probes),
    }


def _void(scenario: Scenario, found: Document) -> str | None:
    if not found["offered"]:
        return "nothing was offered"
    return lag_verdict(scenario.generator, found["generator_lag_ms"])


def _failures(requests: Sequence[Judged]) -> list[Document]:
    """The commonest reasons of outcomes that are not in the server's words."""
    reasons = Counter(
        (each.outcome.value, each.reply.status, (each.reply.problem or "")[:200])
        for each in requests
        if each.outcome.value in ("failed", "client_gone")
    )
    return [
        {"outcome": outcome, "status": status, "problem": problem, "count": count}
        for (outcome, status, problem), count in reasons.most_common(_MOST_FAILURES)
    ]


def _counts(bins: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    names = dict.fromkeys(name for part in bins for name in part)
    counted = [Counter(part) for part in bins]
    return {name: [each[name] for each in counted] for name in names}


def _percentile(values: Sequence[float], share: float) -> float | None:
    return percentile(sorted(values), share) if values else None
