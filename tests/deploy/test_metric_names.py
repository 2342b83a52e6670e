"""Rules and dashboard name only what the running server exports."""

from __future__ import annotations

import re

import pytest

from server.routing.outcomes import Outcome
from tests.deploy.names import (
    dashboard,
    dashboard_expressions,
    expressions,
    metrics_named,
    outcomes_named,
    panels,
    recorded,
    rules,
)
from tests.deploy.promtool import ROOT
from tests.server.fixtures import CONTEXT, QUESTION, serving

_LABELS = re.compile(r"by \(([^)]*)\)")


@pytest.fixture(scope="module")
def exported() -> str:
    """What `/metrics` says after one question."""
    with serving() as client:
        headers = {"X-Latency-Budget-ms": "5000"}
        assert client.post("/qa", json={"question": QUESTION, "context": CONTEXT}, headers=headers).status_code == 200
        assert client.post("/qa", json={}).status_code == 422
        return client.get("/metrics").text


def series_of(exported: str) -> set[str]:
    """Names of all series; a labelled counter that has not counted yet has its type alone."""
    names = {re.split(r"[{ ]", line)[0] for line in exported.splitlines() if not line.startswith("#")}
    for line in exported.splitlines():
        if line.startswith("# TYPE") and line.endswith(" counter"):
            names.add(line.split()[2])
    return names


def test_every_metric_in_rules_and_dashboard_is_exported_or_recorded(exported: str) -> None:
    known = series_of(exported) | recorded()
    named = {name for expression in expressions() for name in metrics_named(expression)}
    assert named <= known, f"nobody exports {sorted(named - known)}"
    assert len(named) > 20


def test_every_label_is_exported(exported: str) -> None:
    known = set(re.findall(r'[{,]([a-z_]+)="', exported)) | {"status", "job", "instance", "le"}
    for expression in expressions():
        for labels in _LABELS.findall(expression):
            assert {label.strip() for label in labels.split(",")} <= known, expression


def test_every_outcome_named_is_one() -> None:
    named = {outcome for expression in expressions() for outcome in outcomes_named(expression)}
    assert named <= {str(outcome) for outcome in Outcome}
    assert {"served_in_budget", "client_gone"} <= named


def test_buckets_that_are_named_are_there(exported: str) -> None:
    for expression in dashboard_expressions():
        for name, bound in re.findall(r'(leeway_\w+)_bucket\{[^}]*le="([^"]+)"', expression):
            assert re.search(rf'^{name}_bucket{{[^}}]*le="{re.escape(bound)}"', exported, re.MULTILINE), expression


def test_every_recorded_name_is_used() -> None:
    used = {name for rule in rules() for name in metrics_named(rule["expr"])}
    used |= {name for expression in dashboard_expressions() for name in metrics_named(expression)}
    # The rate by outcome is for people who look around.
    assert recorded() - used == {"leeway:requests:rate5m"}


def test_the_dashboard_shows_what_it_must() -> None:
    shown = " ".join(f"{panel['title']}." for panel in panels())
    for wanted in (
        *("Attainment", "Effective F1", "Latency by stage", "Configuration mix", "Queue", "Slack"),
        *("Prediction error", "CPU pressure"),
    ):
        assert wanted in shown


def test_every_panel_asks_the_provisioned_data_source_and_says_what_it_shows() -> None:
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    uid = dashboard()["panels"][1]["datasource"]["uid"]
    assert f"uid: {uid}\n" in source
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": uid}
        assert panel["targets"]
        assert all(target["datasource"]["uid"] == uid for target in panel["targets"])


def test_panels_have_an_id_each_and_do_not_overlap() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
