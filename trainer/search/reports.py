"""What the stages print and draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_store import ParetoTable
from trainer.search.comparing import Loss, rank_correlation
from trainer.search.front import Evaluation, compare_areas, non_dominated
from trainer.search.frozen import FROZEN_FILE, read_frozen
from trainer.search.plot import plot_search
from trainer.search.record import EVALUATIONS_FILE, Record, read_record
from trainer.search.table import WANTED_POINTS

PICTURE_FILE = "search.png"
_LABELS = {
    "macs": "multiply-accumulate operations of one window of {} tokens",
    "time": "engine time, as a share of the full configuration's",
}


def baseline(record: Record) -> tuple[Evaluation, ...]:
    """The evaluated configurations of constant-ratio dropping."""
    wanted = set(record.space.constant_ratios(record.settings["constant_ratios"]))
    return tuple(each for each in record.evaluations if each.genes in wanted)


def summary(record: Record) -> list[str]:
    """The frontier, and how much better than constant-ratio dropping it is on the search's questions."""
    lines = [
        f"  {'-'.join(map(str, each.genes)):>24}  cost {each.cost:.5g}  F1 {each.score:.2f}"
        for each in non_dominated(record.evaluations)
    ]
    areas = compare_areas(record.evaluations, baseline(record))
    lines.append(
        f"mean F1 at equal cost: frontier {areas.found:.2f}, constant ratio {areas.baseline:.2f} "
        f"(costs {areas.low:.4g} to {areas.high:.4g}, the search's own questions)"
    )
    return lines


def table_lines(table: ParetoTable) -> list[str]:
    """One line per point, cheapest first, input ratios before the layers'; and a warning where there are few."""
    full = table.full.macs
    lines = []
    for point in table.points:
        low, high = point.held_out_f1_interval or (point.held_out_f1, point.held_out_f1)
        dev = "" if point.dev_f1 is None else f"  dev F1 {point.dev_f1:.2f}"
        ratios = ", ".join(f"{ratio:.3f}" for ratio in point.configuration.ratios)
        if table.skims:
            ratios = f"{point.configuration.input_ratio:.3f}: {ratios}"
        lines.append(
            f"  {point.id:>4}  {point.macs / full:6.1%} of full  F1 {point.held_out_f1:.2f} [{low:.2f}, {high:.2f}]"
            f"  EM {point.held_out_exact_match:.2f}{dev}  ({ratios})"
        )
    alike = None if table.full.dev_f1 is None else rank_correlation(table)
    if alike is not None:
        lines.append(f"Spearman's rank correlation of held-out and dev F1: {alike:.3f}")
    if len(table.points) < WANTED_POINTS:
        lines.append(f"only {len(table.points)} points are left; score more candidates again, or search on")
    return lines


def loss_lines(losses: Sequence[Loss]) -> list[str]:
    """One line per point, and the greatest loss."""
    lines = [
        f"  {loss.id:>4}  int8 F1 {loss.int8:.2f}  float {loss.difference.mean:+.2f} "
        f"[{loss.difference.low:+.2f}, {loss.difference.high:+.2f}]"
        for loss in losses
    ]
    worst = max(losses, key=lambda loss: loss.difference.mean)
    return [*lines, f"int8 loses {worst.difference.mean:.2f} at most, at {worst.id}"]


def draw(folder: Path) -> Path:
    """Draw the search in `folder`; with its table where the costs are the table's."""
    record = read_record(folder / EVALUATIONS_FILE)
    table = read_frozen(folder).table if (folder / FROZEN_FILE).exists() else None
    cost = record.settings["cost"]
    label = _LABELS[cost].format(record.settings["real_length"])
    path = folder / PICTURE_FILE
    plot_search(path, record.evaluations, baseline(record), label, table if cost == "macs" else None)
    return path
