"""From evaluations to the Pareto table: choose candidates, score them again, keep what is not dominated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_store import LengthConfiguration, ParetoPoint, ParetoTable
from model_store.pareto import FULL
from reading import QuestionScores, paired_bootstrap
from trainer.search.core import CostFunction
from trainer.search.front import Evaluation, apart, nearly, non_dominated, thin
from trainer.search.genes import Genes, GeneSpace

RESAMPLES = 2000
WANTED_POINTS = 12
"""Fewer points than this make a coarse dial."""

NOISE = 2.0
"""F1 by which a configuration may lie under the front and still be scored again: so much better is the best of many on
the search's 400 questions than on others (LOG.md, fourteenth session)."""

LEAST_STEP = 0.005
"""Of the full cost at a length, between two points of a table: what lies closer cannot be told apart by its time."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """A configuration's quality on questions that the search never saw, in percent.

    Attributes:
        genes: see `genes.Genes`.
        f1: mean.
        exact_match: mean.
        low: lower end of the 95% bootstrap interval of F1.
        high: its upper end.
    """

    genes: Genes
    f1: float
    exact_match: float
    low: float
    high: float

    @classmethod
    def of(cls, genes: Genes, scores: QuestionScores, seed: int) -> Rescored:
        """Means and interval of `scores`, two digits; questions are resampled by `seed`.

        Raises:
            ValueError: no questions.
        """
        rng = np.random.default_rng(seed)
        found = paired_bootstrap(scores.f1, np.zeros_like(scores.f1), rng, resamples=RESAMPLES)
        shares = (found.mean, float(scores.exact_match.mean()), found.low, found.high)
        return cls(genes, *(round(100.0 * share, 2) for share in shares))


def candidates(space: GeneSpace, evaluations: Sequence[Evaluation], count: int) -> tuple[Genes, ...]:
    """At most `count` well-spread genes of the evaluations' front, cheapest first, `full` always last.

    Where the front is shorter, what lies under it by no more than `NOISE` fills the gaps: few questions cannot tell
    such points from it, and the table's may.

    Raises:
        ValueError: `full` was not evaluated, or `count` is under 2.
    """
    full = next((each for each in evaluations if each.genes == space.full), None)
    if full is None:
        raise ValueError("the search has not evaluated the full configuration yet")
    front = [*(each for each in non_dominated(evaluations) if each.genes != space.full), full]
    if len(front) >= count:
        return tuple(each.genes for each in thin(front, count))
    gaps = {each.genes: each for each in (*front, *nearly(evaluations, NOISE)) if each.genes != space.full}
    by_cost = sorted(gaps.values(), key=lambda each: each.cost)
    return tuple(each.genes for each in thin([*by_cost, full], count, front))


def rescore(  # noqa: PLR0913 - pure: everything that it depends on is an argument
    space: GeneSpace,
    wanted: Sequence[Genes],
    evaluate: Callable[[LengthConfiguration], QuestionScores],
    *,
    seed: int,
    known: Sequence[Rescored] = (),
    on_rescored: Callable[[Rescored], None] | None = None,
) -> tuple[Rescored, ...]:
    """Score each of `wanted` again, in their order, but for those that are `known`.

    Args:
        space: of the genes.
        wanted: may hold genes twice; they are scored once.
        evaluate: scores of the questions that the table is made by.
        seed: of the bootstrap; the same resamples for all.
        known: from an interrupted run.
        on_rescored: gets every new one at once.
    """
    found = {each.genes: each for each in known}
    for genes in dict.fromkeys(wanted):
        if genes not in found:
            found[genes] = Rescored.of(genes, evaluate(space.configuration(genes)), seed)
            if on_rescored is not None:
                on_rescored(found[genes])
    return tuple(found[genes] for genes in dict.fromkeys(wanted))


def make_table(
    space: GeneSpace,
    rescored: Sequence[Rescored],
    cost_at: Callable[[int], CostFunction],
    lengths: Sequence[int],
    points: int,
) -> ParetoTable:
    """The table of what is not dominated in MACs and re-scored F1, and of `full`, which always stays.

    Points that differ by less than `LEAST_STEP` of the full cost at one of `lengths` may take the same time, and the
    dearer of them less, as counts of tokens are rounded: only the best of them is in.

    Args:
        space: of the genes.
        rescored: with `full` among them.
        cost_at: MACs at a length.
        lengths: tokens of windows that the points must be apart at; the table's MACs are counted for the first.
        points: at most; the cheapest of those that are apart and `full` are always among them.

    Raises:
        ValueError: `full` was not scored again, `lengths` is empty, or `points` is under 2.
    """
    if not lengths:
        raise ValueError("a table counts MACs at one length at least")
    by_genes = {each.genes: each for each in rescored}
    if space.full not in by_genes:
        raise ValueError("the full configuration was not scored again")
    costs = [cost_at(length) for length in lengths]
    scored = [Evaluation(each.genes, costs[0](space.configuration(each.genes)), each.f1) for each in rescored]
    full = next(each for each in scored if each.genes == space.full)
    front = [*(each for each in non_dominated(scored) if each.cost < full.cost), full]
    macs = np.array([[cost(space.configuration(each.genes)) for cost in costs] for each in front])
    kept = thin(apart(front, macs / macs[-1], LEAST_STEP), points)
    names = [f"c{number:02d}" for number in range(len(kept) - 1, 0, -1)] + [FULL]
    made = [_point(space, name, each, by_genes[each.genes]) for name, each in zip(names, kept, strict=True)]
    return ParetoTable(tuple(made), float(lengths[0]))


def _point(space: GeneSpace, name: str, evaluation: Evaluation, rescored: Rescored) -> ParetoPoint:
    return ParetoPoint(
        replace(space.configuration(evaluation.genes), id=name),
        evaluation.cost,
        rescored.f1,
        rescored.exact_match,
        (rescored.low, rescored.high),
    )
