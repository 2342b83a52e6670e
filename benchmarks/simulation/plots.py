"""Two kinds of pictures: effective F1 of everyone on every trace, and one trace over time.  Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.simulation.checks import Results
from benchmarks.simulation.contest import BASELINES, FIXED, OURS
from benchmarks.simulation.scores import Scores
from benchmarks.simulation.world import FloatArray

_SMOOTH_SECONDS = 3


def plot(results: Results, folder: Path) -> list[Path]:
    """Write ``effective_f1.png`` and one picture per trace into `folder`; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_overview(results, folder / "effective_f1.png")]
    for trace, seeds in results.items():
        if seeds and OURS in seeds[0]:
            written.append(_over_time(trace, seeds[0], folder / f"{trace}.png"))
    return written


def _overview(results: Results, path: Path) -> Path:
    from matplotlib.figure import Figure

    columns = 2
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    for place, (trace, seeds) in enumerate(results.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        for height, policy in enumerate(reversed(list(seeds[0]))):
            values = [each[policy].effective_f1 for each in seeds]
            axes.plot([min(values), max(values)], [height, height], color="0.7", linewidth=4)
            axes.plot([float(np.median(values))], [height], "o", color="C3" if policy == OURS else "C0")
        axes.set_yticks(range(len(seeds[0])), labels=list(reversed(list(seeds[0]))), fontsize=7)
        axes.set_title(trace, fontsize=9)
        axes.set_xlabel("effective F1, median and range over seeds", fontsize=7)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)
    return path


def _over_time(trace: str, scores: Mapping[str, Scores], path: Path) -> Path:
    """Effective F1 by second of arrival, smoothed, of ours, the best fixed one and the best other one; first seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
    others = [name for name in BASELINES if name in scores and name not in FIXED]
    fixed = [name for name in FIXED if name in scores]
    best = [max(names, key=lambda name: scores[name].effective_f1) for names in (fixed, others) if names]
    offered = np.array(scores[OURS].offered_by_second, dtype=np.float64)
    above.plot(smooth(offered), color="0.3")
    above.set_ylabel("offered, 1/s")
    above.set_title(trace)
    for name in dict.fromkeys([OURS, *best]):
        sums = np.array(scores[name].f1_by_second)
        below.plot(smooth(sums) / np.maximum(smooth(offered), 1e-9), label=name)
    below.set_ylabel("effective F1")
    below.set_xlabel("second of arrival")
    below.legend()
    figure.savefig(path, dpi=120)
    return path


def smooth(values: FloatArray) -> FloatArray:
    """Mean over `_SMOOTH_SECONDS` neighbours, of the same shape; fewer at the ends."""
    window = np.ones(_SMOOTH_SECONDS)
    sums = np.convolve(values, window, mode="same")[: len(values)]
    return np.asarray(sums / np.convolve(np.ones(len(values)), window, mode="same")[: len(values)])
