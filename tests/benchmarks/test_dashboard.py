"""The dashboard's plots: panels and legends as Grafana has them, drawn from a Prometheus that a test plays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboard import DASHBOARD, Panel, draw, legend, panels


def test_every_plot_of_the_dashboard_is_there_in_reading_order() -> None:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = panels(document)
    assert len(found) == sum(each["type"] == "timeseries" for each in document["panels"])
    assert found[0].title == "Attainment over time"
    assert found[0].unit == "percentunit"
    assert all("$" not in expression for each in found for expression, _ in each.queries)


def test_a_legend_takes_the_values_of_labels() -> None:
    assert legend("scale, {{instance}}", {"instance": "a:1"}) == "scale, a:1"
    assert legend("{{ stage }}/{{nothing}}", {"stage": "infer"}) == "infer/"
    assert legend("median", {}) == "median"


class Recorded:
    """Answers one expression with one series, any other with none."""

    asked: list[tuple[float, float]]

    def __init__(self) -> None:
        self.asked = []

    def query_range(self, expression: str, start: float, end: float, _step: float) -> list[Mapping[str, Any]]:
        self.asked.append((start, end))
        values = [[100.0, "1"], [101.0, "NaN"], [102.0, "0.5"]]
        return [{"metric": {"instance": "a:1"}, "values": values}] if expression == "up" else []


def test_a_picture_is_drawn_and_an_empty_panel_is_told(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    prometheus: Any = Recorded()
    shown = [Panel("Up", "s", (("up", "{{instance}}"), ("down", ""))), Panel("Down", "", (("down", ""),))]
    path = tmp_path / "new" / "plots.png"
    assert draw(prometheus, shown, 100.0, 102.0, path) == {"Up": 1, "Down": 0}
    assert prometheus.asked == [(100.0, 102.0)] * 3
    assert path.read_bytes().startswith(b"\x89PNG")
