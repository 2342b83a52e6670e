"""Pareto fronts: which evaluations are not dominated, how good a front is, and few points that stand for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.search.genes import Genes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One configuration with what it costs and how well it answers.

    Attributes:
        genes: see `genes.Genes`.
        cost: positive; less is better.  MACs or engine time, as the cost function says.
        score: more is better.  F1 in percent.
    """

    genes: Genes
    cost: float
    score: float

    def dominates(self, other: Evaluation) -> bool:
        """Whether `other` is no better in cost and score, and worse in one."""
        no_worse = self.cost <= other.cost and self.score >= other.score
        return no_worse and (self.cost < other.cost or self.score > other.score)


def non_dominated(evaluations: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
    """The Pareto set, cheapest first: cost and score both rise strictly.

    Of evaluations that are equal in both, the first one given stays.
    """
    front: list[Evaluation] = []
    for evaluation in sorted(evaluations, key=lambda each: (each.cost, -each.score)):
        if not front or evaluation.score > front[-1].score:
            front.append(evaluation)
    return tuple(front)


def area_under_frontier(evaluations: Iterable[Evaluation], low: float, high: float) -> float:
    """Mean, over costs from `low` to `high`, of the best score that can be had at this cost or less.

    The area under the staircase divided by its width, so it reads in units of the score.  No line is drawn
    between points: nothing can be bought there.

    Raises:
        ValueError: an empty interval, or nothing that costs `low` or less.
    """
    front = non_dominated(evaluations)
    if not low < high:
        raise ValueError(f"no costs between {low} and {high}")
    if not front or front[0].cost > low:
        raise ValueError(f"no evaluation costs {low} or less")
    stairs = [max(low, min(high, each.cost)) for each in front] + [high]
    widths = np.diff(np.asarray(stairs))
    return float(np.dot(widths, [each.score for each in front]) / (high - low))


@dataclass(frozen=True, slots=True)
class AreaComparison:
    """Two fronts over the costs that both cover; areas as `area_under_frontier` gives them."""

    found: float
    baseline: float
    low: float
    high: float


def compare_areas(found: Sequence[Evaluation], baseline: Sequence[Evaluation]) -> AreaComparison:
    """Areas under both fronts, from the dearer of the two cheapest points to the cheaper of the two dearest.

    Raises:
        ValueError: one is empty, or they cover no common costs.
    """
    if not found or not baseline:
        raise ValueError("an empty front covers no costs")
    low = max(min(each.cost for each in part) for part in (found, baseline))
    high = min(max(each.cost for each in part) for part in (found, baseline))
    return AreaComparison(area_under_frontier(found, low, high), area_under_frontier(baseline, low, high), low, high)


def apart(front: Sequence[Evaluation], costs: NDArray[np.float64], least: float) -> tuple[Evaluation, ...]:
    """Points of `front` of which each costs more than the one before by `least` or more, at every length.

    From the dearest down, which stays: so of points that are not apart the last is kept, which scores best.

    Args:
        front: non-dominated, cheapest first.
        costs: of its points, ``[points, lengths]``.
        least: difference of cost.
    """
    chosen: list[int] = []
    for place in reversed(range(len(front))):
        if not chosen or (costs[chosen[-1]] - costs[place] >= least).all():
            chosen.append(place)
    return tuple(front[place] for place in reversed(chosen))


def nearly(evaluations: Sequence[Evaluation], slack: float) -> tuple[Evaluation, ...]:
    """What no cheaper or equally cheap evaluation beats by more than `slack` in score, cheapest first.

    With a slack of 0 these are `non_dominated` and what equals one of them in score at a higher cost.
    """
    found, best = list[Evaluation](), -math.inf
    for each in sorted(evaluations, key=lambda each: (each.cost, -each.score)):
        best = max(best, each.score)
        if each.score >= best - slack:
            found.append(each)
    return tuple(found)


def thin(front: Sequence[Evaluation], count: int, first: Sequence[Evaluation] = ()) -> tuple[Evaluation, ...]:
    """At most `count` well-spread points of `front`, in its order; the first and the last always stay.

    So do those of `first`, which are among them, as far as there is room.  Farthest-point selection (Gonzalez 1985):
    next comes the point whose nearest chosen one is farthest, with cost and score each scaled to 0..1.  Of equally far
    ones the first in the front's order is taken.

    Raises:
        ValueError: `count` under 2.
    """
    if count < 2:
        raise ValueError(f"both ends are two points, not {count}")
    if len(front) <= count:
        return tuple(front)
    places = np.asarray([(each.cost, each.score) for each in front])
    spans = places.max(axis=0) - places.min(axis=0)
    places = places / np.where(spans > 0.0, spans, 1.0)
    chosen = list(dict.fromkeys([0, len(front) - 1, *(front.index(each) for each in first)]))[:count]
    while len(chosen) < count:
        gaps = np.linalg.norm(places[:, None, :] - places[None, chosen, :], axis=2).min(axis=1)
        gaps[chosen] = -1.0
        chosen.append(int(gaps.argmax()))
    return tuple(front[place] for place in sorted(chosen))
