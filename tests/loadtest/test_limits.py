from __future__ import annotations

from typing import Any

import pytest

from loadtest.limits import BROKEN, PASSED, VOID, broken_limits, exit_status, lag_verdict
from loadtest.outcomes import Outcome, Reply
from loadtest.report import document_of
from loadtest.runs import Result, Run
from loadtest.scenario import GeneratorPlan, Scenario
from tests.loadtest.makers import judged, scenario

REQUESTS = (
    *(judged(float(place), at=place / 10, phase="before") for place in range(1, 91)),
    *(
        judged(1.0, Outcome.REJECTED_OVERLOAD, at=9.0, f1=0.0, phase="after", budget="tight", reply=Reply(503))
        for _ in range(10)
    ),
)
ARRIVALS = {
    "process": "constant",
    "phases": [{"name": "before", "seconds": 9, "rate": 10}, {"name": "after", "seconds": 1, "rate": 10}],
}
BUDGETS = [{"label": "default", "share": 0.9, "ms": 100}, {"label": "tight", "share": 0.1, "ms": 5}]


def document(limits: dict[str, Any], requests: tuple[Any, ...] = REQUESTS) -> dict[str, Any]:
    return document_of(result(scenario(arrivals=ARRIVALS, budgets=BUDGETS, limits=limits), requests))


def result(of: Scenario, requests: tuple[Any, ...]) -> Result:
    return Result(of, {}, None, (), Run(requests, 10.0), None, (), 0)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"min_slo_attainment": 0.9, "min_effective_f1": 90, "min_goodput": 9.0},
        {"max_latency_ms": {"p50": 50, "p90": 90}, "max_failed_share": 0},
        {"phases": {"before": {"min_slo_attainment": 1.0}}, "budgets": {"default": {"min_goodput": 9}}},
    ],
)
def test_limits_that_hold(limits: dict[str, Any]) -> None:
    found = document(limits)
    assert found["broken"] == []
    assert found["passed"] is True
    assert exit_status(found) == PASSED


@pytest.mark.parametrize(
    ("limits", "name", "of", "figure"),
    [
        ({"min_slo_attainment": 0.901}, "min_slo_attainment", "all", 0.9),
        ({"min_effective_f1": 90.5}, "min_effective_f1", "all", 90.0),
        ({"min_goodput": 9.1}, "min_goodput", "all", 9.0),
        ({"max_latency_ms": {"p50": 49.9}}, "max_latency_ms.p50", "all", 50.0),
        ({"max_latency_ms": {"p95": 1e6}}, "max_latency_ms.p95", "all", None),  # refusals are misses
        ({"phases": {"after": {"min_slo_attainment": 0.1}}}, "min_slo_attainment", "phases.after", 0.0),
        ({"budgets": {"tight": {"min_slo_attainment": 0.1}}}, "min_slo_attainment", "budgets.tight", 0.0),
        ({"max_drift": 1.5}, "max_drift", "all", 79 / 11),  # medians of 1..22 and 69..90
    ],
)
def test_limits_that_are_broken(limits: dict[str, Any], name: str, of: str, figure: float | None) -> None:
    found = document(limits)
    (breach,) = found["broken"]
    assert (breach["limit"], breach["of"]) == (name, of)
    assert breach["found"] == (None if figure is None else pytest.approx(figure))
    assert found["passed"] is False
    assert exit_status(found) == BROKEN


def test_a_phase_without_requests_breaks_its_limits() -> None:
    found = document({"phases": {"after": {"min_slo_attainment": 0.1, "max_failed_share": 0.5}}}, REQUESTS[:90])
    assert [breach["found"] for breach in found["broken"]] == [None, None]


def test_failures_count() -> None:
    failed = judged(1.0, Outcome.FAILED, reply=Reply(500))
    found = document({"max_failed_share": 0.4}, (failed, judged()))
    assert [breach["found"] for breach in found["broken"]] == [0.5]
    assert found["failures"] == [{"outcome": "failed", "status": 500, "problem": "", "count": 1}]


def test_the_lag_verdict() -> None:
    plan = GeneratorPlan(max_lag_p99_ms=5.0)
    assert lag_verdict(plan, {"p99": 5.0}) is None
    assert "5.01 ms" in (lag_verdict(plan, {"p99": 5.01}) or "")
    assert lag_verdict(plan, {"p99": None}) is None


def test_a_lagging_generator_voids_whatever_else_holds() -> None:
    lagging = (*(judged() for _ in range(97)), *(judged(lag_ms=11.0) for _ in range(3)))
    found = document({}, lagging)
    assert found["void"] is not None
    assert found["passed"] is False
    assert exit_status(found) == VOID
    fine = (*(judged() for _ in range(99)), judged(lag_ms=11.0))
    assert document({}, fine)["void"] is None


def test_nothing_offered_is_void() -> None:
    assert exit_status(document({}, ())) == VOID


def test_a_search_that_finds_no_rate_breaks_min_rate() -> None:
    limits = scenario(search={"start": 1.0}, limits={"min_rate": 1.0}).limits
    assert broken_limits(limits, {"search": {"offered_rate": 2.0}, "drift": None}) == []
    assert len(broken_limits(limits, {"search": {"offered_rate": None}, "drift": None})) == 1
