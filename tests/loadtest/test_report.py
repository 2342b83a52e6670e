from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadtest.bisection import Found, Probe
from loadtest.figures import Judged
from loadtest.mixes import Budget
from loadtest.outcomes import Outcome, Reply
from loadtest.page import page_of
from loadtest.report import document_of, over_time, summary_line
from loadtest.runs import Capacity, Result, Run, probe_document
from tests.loadtest.makers import judged, scenario

REQUIRED = {
    "scenario",
    "offered",
    "slo_attainment",
    "effective_f1",
    "goodput",
    "outcomes",
    "latency_ms",
    "generator_lag_ms",
    "passed",
}


def reply(configuration: str) -> Reply:
    return Reply(200, configuration=configuration, expected_f1=70.0)


REQUESTS = (
    judged(10.0, at=0.1, reply=reply("full")),
    judged(20.0, at=0.2, reply=reply("half")),
    judged(30.0, Outcome.SERVED_LATE, at=1.5, reply=reply("half"), lag_ms=2.0),
    judged(1.0, Outcome.REJECTED_OVERLOAD, at=2.9, reply=Reply(503), budget="<b>&"),
)


def result(requests: tuple[Judged, ...] = REQUESTS, **changes: Any) -> Result:
    run = Run(requests, 3.0)
    given: dict[str, Any] = {
        "scenario": scenario(),
        "server": {"model": {"name": "<script>alert(1)</script>"}},
        "capacity": Capacity(40.0, 12.5),
        "budgets": (Budget("default", 100.0),),
        "run": run,
        "found": None,
        "probes": (),
        "opened": 3,
    }
    return Result(**{**given, **changes})


def test_the_document_has_what_others_rely_on_and_is_json() -> None:
    found = document_of(result())
    assert set(found) >= REQUIRED
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["scenario"] == "test"
    assert found["length_configs"] == {"full": 1, "half": 2}
    assert found["capacity"] == {"rate": 40.0, "idle_full_ms": 12.5}
    assert set(found["budgets"]) == {"default", "<b>&"}


def test_over_time_by_hand() -> None:
    found = over_time(REQUESTS, 3.0)
    assert found["bin_seconds"] == 1.0
    assert found["outcomes"] == {
        "served_in_budget": [2, 0, 0],
        "served_late": [0, 1, 0],
        "rejected_overload": [0, 0, 1],
    }
    assert found["length_configs"] == {"full": [1, 0, 0], "half": [1, 1, 0]}
    assert found["p50_ms"] == [10.0, 30.0, None]
    assert found["lag_p99_ms"] == [0.5, 2.0, 0.5]


def test_a_long_run_has_few_bins_and_loses_nothing() -> None:
    requests = [judged(at=float(place)) for place in range(3601)]
    found = over_time(requests, 3600.0)
    assert len(found["p50_ms"]) == 120
    assert sum(found["outcomes"]["served_in_budget"]) == 3601


def test_a_search_says_what_it_tried() -> None:
    found = Found(2.0, 2.1, settled=True, probes=(Probe(2.0, passed=True), Probe(2.1, passed=False)))
    probes = (probe_document(Run(REQUESTS, 3.0, 2.0), passed=True),)
    search = document_of(result(found=found, probes=probes))["search"]
    assert (search["rate"], search["failed"], search["settled"]) == (2.0, 2.1, True)
    assert search["offered_rate"] == pytest.approx(4 / 3)
    assert search["probes"][0]["passed"] is True
    assert document_of(result(found=Found(None, 1.0, settled=False, probes=())))["search"]["offered_rate"] is None


@pytest.mark.parametrize("requests", [REQUESTS, REQUESTS[3:], ()])
def test_the_page_needs_nothing_else(requests: tuple[Judged, ...]) -> None:
    found = document_of(result(requests))
    page = page_of(found, [each.latency_ms for each in requests if each.answered])
    assert "<script" not in page
    assert not re.search(r"(src|href)\s*=|url\(|@import", page)
    ET.fromstring(page.removeprefix("<!DOCTYPE html>").replace('<meta charset="utf-8">', ""))  # noqa: S314 - ours
    assert page.count("<svg") >= 4


def test_the_page_says_the_verdict() -> None:
    found = document_of(result())
    assert ">Passed<" in page_of(found, [])
    assert ">Void: too slow<" in page_of({**found, "void": "too slow"}, [])
    broken = {**found, "broken": [{"limit": "min_rate", "of": "all", "bound": 1.0, "found": None}]}
    assert ">Failed<" in page_of(broken, [])
    probed = document_of(result(found=Found(2.0, None, settled=False, probes=()), probes=()))
    assert "Highest rate" in page_of(probed, [])


def test_the_line_for_a_terminal() -> None:
    assert summary_line(document_of(result())).startswith("test: offered 4, slo_attainment 0.5")
