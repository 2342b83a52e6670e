"""Do the scenario's limits hold?  And the exit status that says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from loadtest.figures import Document
from loadtest.scenario import GeneratorPlan, Limits, RunLimits

PASSED = 0
BROKEN = 1
NOT_RUN = 2
VOID = 3
"""Exit statuses: all limits hold; one is broken; nothing could be measured; what was measured says nothing."""

_LEAST = {"min_slo_attainment": "slo_attainment", "min_effective_f1": "effective_f1", "min_goodput": "goodput"}


def broken_limits(limits: Limits, document: Mapping[str, Any]) -> list[Document]:
    """Every limit that the figures break: ``limit``, ``of`` (all, a phase, a budget class), ``bound`` and ``found``.

    A figure that is not there (no request, a percentile that is infinite) breaks its limit.
    """
    found = list(_broken(limits, document, "all"))
    for kind in ("phases", "budgets"):
        for name, part in getattr(limits, kind).items():
            found += _broken(part, document[kind].get(name, {}), f"{kind}.{name}")
    if limits.min_rate is not None:
        search = document["search"] or {}
        found += _at_least("min_rate", "all", limits.min_rate, search.get("offered_rate"))
    if limits.max_drift is not None:
        found += _at_most("max_drift", "all", limits.max_drift, document["drift"])
    return found


def lag_verdict(plan: GeneratorPlan, lag_ms: Mapping[str, float | None]) -> str | None:
    """Why a run is void for its generator's lag; None if it is not (a run without requests has no lag)."""
    p99 = lag_ms["p99"]
    if p99 is None or p99 <= plan.max_lag_p99_ms:
        return None
    return f"the generator lagged by {p99:.2f} ms (p99; the limit is {plan.max_lag_p99_ms:g} ms)"


def exit_status(document: Mapping[str, Any]) -> int:
    """`VOID`, `BROKEN` or `PASSED`."""
    if document["void"] is not None:
        return VOID
    return BROKEN if document["broken"] else PASSED


def _broken(limits: RunLimits, figures: Mapping[str, Any], of: str) -> Iterator[Document]:
    for name, figure in _LEAST.items():
        bound = getattr(limits, name)
        if bound is not None:
            yield from _at_least(name, of, bound, figures.get(figure))
    if limits.max_failed_share is not None:
        offered = figures.get("offered")
        share = figures["outcomes"]["failed"] / offered if offered else None
        yield from _at_most("max_failed_share", of, limits.max_failed_share, share)
    for name, bound in limits.max_latency_ms.items():
        yield from _at_most(f"max_latency_ms.{name}", of, bound, figures.get("latency_of_all_ms", {}).get(name))


def _at_least(limit: str, of: str, bound: float, found: float | None) -> Iterator[Document]:
    if found is None or found < bound:
        yield {"limit": limit, "of": of, "bound": bound, "found": found}


def _at_most(limit: str, of: str, bound: float, found: float | None) -> Iterator[Document]:
    if (math.inf if found is None else found) > bound:
        yield {"limit": limit, "of": of, "bound": bound, "found": found}
