"""The dashboard's plots from a recorded run.  ``python -m benchmarks.dashboard --data SQUAD --out FILE.png`` (Linux).

A calibrated server on one core, Locust and a real Prometheus on the other; then every panel of the Grafana dashboard is
drawn from what its own queries give. Needs ``prometheus`` on the PATH and the extras ``loadtest`` and ``train``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.load import Generator, Play, brief
from benchmarks.prometheus import PrometheusServer
from benchmarks.promise.pinned import Setup, pinned_server
from benchmarks.report import Document, check_data, finish, plain_errors, say
from benchmarks.server_process import BenchmarkError
from server.settings import packaged_store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "leeway.json"

SCENARIOS = ("mixed_budgets", "overload", "load_120")
RATE_INTERVAL = "10s"
"""Grafana would take four scrapes of the 5 s of deploy/prometheus.yml; a short run scraped every second needs less."""

_PAUSE_SECONDS = 5.0
_STEP_SECONDS = 1.0
_MOST_LEGEND = 16


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of the dashboard.

    Attributes:
        title: above it.
        unit: Grafana's name of it; empty: a plain number.
        queries: expression as Prometheus takes it, and legend as Grafana writes it (``{{label}}``).
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def panels(dashboard: Mapping[str, Any], rate_interval: str = RATE_INTERVAL) -> list[Panel]:
    """Those of a dashboard that show a course of time, for all instances, in reading order."""
    found = [each for each in dashboard["panels"] if each["type"] == "timeseries"]
    found.sort(key=lambda each: (each["gridPos"]["y"], each["gridPos"]["x"]))
    return [
        Panel(
            each["title"],
            each["fieldConfig"]["defaults"].get("unit", ""),
            tuple(
                (
                    target["expr"].replace("$__rate_interval", rate_interval).replace("$instance", ".*"),
                    target.get("legendFormat", ""),
                )
                for target in each["targets"]
            ),
        )
        for each in found
    ]


def legend(template: str, labels: Mapping[str, str]) -> str:
    """What Grafana writes beside a series: ``{{label}}`` becomes the label's value."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)


def draw(prometheus: PrometheusServer, shown: Sequence[Panel], start: float, end: float, path: Path) -> dict[str, int]:
    """Every panel over the time from `start` to `end` (Unix seconds); the picture's kind follows from its name.

    Returns:
        How many series each panel has.

    Raises:
        ImportError: matplotlib is not installed.
        BenchmarkError: Prometheus did not answer a query.
        OSError, ValueError: the file cannot be written, or its kind is unknown.
    """
    from matplotlib.figure import Figure

    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(16, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False)
    counts = {}
    for panel, axes in zip(shown, grid.flat, strict=False):
        counts[panel.title] = 0
        for expression, template in panel.queries:
            for series in prometheus.query_range(expression, start, end, _STEP_SECONDS):
                values = [(float(at) - start, float(value)) for at, value in series["values"]]
                axes.plot(*zip(*values, strict=True), linewidth=1.1, label=legend(template, series["metric"]))
                counts[panel.title] += 1
        _dress(axes, panel, end - start, counts[panel.title])
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return counts


def _dress(axes: Axes, panel: Panel, seconds: float, series: int) -> None:
    units = {"s": "seconds", "reqps": "requests/s", "percentunit": "share"}
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylabel(units.get(panel.unit, panel.unit), fontsize=8)
    axes.set_xlim(0, seconds)
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.3)
    if 0 < series <= _MOST_LEGEND:
        axes.legend(fontsize=6, loc="upper left", ncols=1 + series // 8)


@plain_errors
def dashboard(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[Path, typer.Option(help="Questions in SQuAD format, plain or .gz.")],
    out: Annotated[Path, typer.Option(help="The picture (.png, .svg).")],
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    scenario: Annotated[list[str] | None, typer.Option(help="Of loadtest/scenarios (several times).")] = None,
    report_dir: Annotated[Path, typer.Option(help="Folder of Locust's reports.")] = Path("runs/dashboard"),
    server_core: Annotated[int, typer.Option(min=0, help="Core of the server.")] = 0,
    client_core: Annotated[int, typer.Option(min=0, help="Core of generator and Prometheus.")] = 1,
    calibration_seconds: Annotated[float, typer.Option(min=1, help="Of the calibration, at most.")] = 100.0,
) -> None:
    """Play scenarios one after another, and draw what the dashboard would have shown."""
    check_data(data)
    binary = shutil.which("prometheus")
    if binary is None:
        raise BenchmarkError(
            "there is no prometheus on the PATH; Debian has it as a package (apt-get install prometheus)"
        )
    folder = store if store is not None else packaged_store()
    setup = Setup(model, folder, data, server_core, client_core, calibration_seconds=calibration_seconds)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(pinned_server(setup))
        records = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leeway-dashboard-")))
        rules = sorted((DEPLOY / "rules").glob("recording.yml"))
        prometheus = PrometheusServer(Path(binary), records, server.port, rules)
        stack.callback(prometheus.stop)
        prometheus.wait_until_ready()
        generator = Generator(server, data.absolute(), report_dir.absolute())
        start = time.time()
        played = []
        for name in scenario or SCENARIOS:
            time.sleep(_PAUSE_SECONDS)
            say(f"{name}, from second {time.time() - start:.0f} on")
            played.append(generator.play(Play(name), 0))
        time.sleep(_PAUSE_SECONDS)
        shown = panels(json.loads(DASHBOARD.read_text(encoding="utf-8")))
        counts = draw(prometheus, shown, start, time.time(), out)
    document: Document = {"benchmark": "dashboard", "model": model, "data": data.name, "panels": counts}
    empty = [title for title, series in counts.items() if not series]
    finish(
        {
            **document,
            "played": {each["scenario"]: brief(each) for each in played},
            "broken": [f"the panel {title!r} shows nothing" for title in empty],
        }
    )


if __name__ == "__main__":
    typer.run(dashboard)
