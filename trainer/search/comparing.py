"""What int8 costs at every point of a frozen table, and whether held-out and dev F1 rank its points alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model_store import LengthConfiguration, ParetoTable
from reading import Interval, QuestionScores, paired_bootstrap

Evaluate = Callable[[LengthConfiguration], QuestionScores]


@dataclass(frozen=True, slots=True)
class Loss:
    """F1 of the float twin less F1 of the int8 model, in points, over the same questions.

    Attributes:
        id: of the point.
        int8: F1 in percent.
        difference: mean and 95% bootstrap interval; positive where int8 loses.
    """

    id: str
    int8: float
    difference: Interval


def int8_loss(configuration: LengthConfiguration, int8: Evaluate, twin: Evaluate, seed: int) -> Loss:
    """Compare at one configuration; `seed` draws the bootstrap."""
    mine, floats = (100.0 * evaluate(configuration).f1 for evaluate in (int8, twin))
    interval = paired_bootstrap(floats, mine, np.random.default_rng(seed))
    return Loss(configuration.id, float(mine.mean()), interval)


def rank_correlation(table: ParetoTable) -> float | None:
    """Spearman's rank correlation of held-out and dev F1 over the points of `table`; equal figures share a rank.

    None where there is no order to compare: fewer than two points, or all of them equal in one of the two.

    Raises:
        ValueError: a point without dev F1.
    """
    pairs = [(point.held_out_f1, point.dev_f1) for point in table.points]
    if any(dev is None for _, dev in pairs):
        raise ValueError("dev F1 was not measured at every point")
    values = np.asarray(pairs, dtype=np.float64).T
    ranks = [(row[None, :] < row[:, None]).sum(1) + 0.5 * (row[None, :] == row[:, None]).sum(1) for row in values]
    if min(float(np.ptp(each)) for each in ranks) <= 0.0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
