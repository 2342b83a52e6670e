"""Every expression of dashboard and rules, and the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deploy.promtool import DEPLOY

_METRIC = re.compile(r"\bleeway[_:][a-z0-9_:]+")
_OUTCOME = re.compile(r'outcome(?:=|!=|=~|!~)"([^"]*)"')


def rules() -> list[dict[str, Any]]:
    """Recording and alerting rules."""
    found = []
    for path in sorted((DEPLOY / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            found += group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/leeway.json").read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    """As Grafana sends them, for all instances."""
    written = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [each.replace("$__rate_interval", "1m").replace("$instance", ".*") for each in written]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + dashboard_expressions()


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def metrics_named(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))


def outcomes_named(expression: str) -> Iterator[str]:
    for alternatives in _OUTCOME.findall(expression):
        yield from alternatives.split("|")
