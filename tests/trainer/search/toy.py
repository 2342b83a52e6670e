"""A search problem whose front is known: few genes, a cost and a concave score that can be written down."""

from __future__ import annotations

from itertools import product

import numpy as np

from model_store import LengthConfiguration
from trainer.search import Evaluation, Genes, GeneSpace, SearchResult, SearchSettings, non_dominated, search

SPACE = GeneSpace(6, (3, 2, 1))


def cost(configuration: LengthConfiguration) -> float:
    return sum(configuration.ratios)


def score(configuration: LengthConfiguration) -> float:
    """Later layers are worth more, each less and less."""
    return float(sum(weight * ratio**0.5 for weight, ratio in zip((1, 2, 4), configuration.ratios, strict=True)))


def everything(space: GeneSpace = SPACE) -> list[Evaluation]:
    """Every configuration of the space."""
    ranges = [range(low, space.levels + 1) for low in space.smallest]
    falling = [genes for genes in product(*ranges) if list(genes) == sorted(genes, reverse=True)]
    return [evaluate(genes, space) for genes in falling]


def evaluate(genes: Genes, space: GeneSpace = SPACE) -> Evaluation:
    configuration = space.configuration(genes)
    return Evaluation(genes, cost(configuration), score(configuration))


def true_front(space: GeneSpace = SPACE) -> tuple[Evaluation, ...]:
    return non_dominated(everything(space))


def settings(searcher: str = "evolution", evaluations: int = 40, space: GeneSpace = SPACE) -> SearchSettings:
    return SearchSettings(space, searcher, evaluations, constant_ratios=6, offspring=4)


def run(given: SearchSettings, seed: int = 0) -> SearchResult:
    return search(cost, score, np.random.default_rng(seed), given)
