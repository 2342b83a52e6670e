"""A picture of a search: every evaluated point, the frontier, and constant-ratio dropping."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_store import ParetoTable
from trainer.search.front import Evaluation, non_dominated

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_search(
    path: Path,
    evaluations: Sequence[Evaluation],
    baseline: Sequence[Evaluation],
    cost_label: str,
    table: ParetoTable | None = None,
) -> None:
    """Write a PNG.

    Args:
        path: of the picture.
        evaluations: all of them.
        baseline: those of constant-ratio dropping.
        cost_label: what the costs are, with their unit.
        table: drawn with its intervals, if the costs are its MACs.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_search(axes, evaluations, baseline)
    if table is not None:
        _draw_table(axes, table)
    axes.set_xlabel(cost_label)
    axes.set_ylabel("held-out F1 (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, format="png", metadata={"Software": None})


def _draw_search(axes: Axes, evaluations: Sequence[Evaluation], baseline: Sequence[Evaluation]) -> None:
    front = non_dominated(evaluations)
    axes.scatter(*_columns(evaluations), s=10, color="0.6", label=f"evaluated ({len(evaluations)})")
    axes.step(*_columns(front), where="post", marker="o", markersize=4, label="frontier, search questions")
    ordered = sorted(baseline, key=lambda each: each.cost)
    axes.plot(*_columns(ordered), "x--", color="tab:red", label="constant ratio, search questions")


def _draw_table(axes: Axes, table: ParetoTable) -> None:
    for point in table.points:
        low, high = point.held_out_f1_interval or (point.held_out_f1, point.held_out_f1)
        axes.plot([point.macs, point.macs], [low, high], color="tab:green", linewidth=1)
    costs, scores = [point.macs for point in table.points], [point.held_out_f1 for point in table.points]
    axes.plot(costs, scores, "*", color="tab:green", label="table, other questions, 95% interval")


def _columns(evaluations: Sequence[Evaluation]) -> tuple[list[float], list[float]]:
    return [each.cost for each in evaluations], [each.score for each in evaluations]
