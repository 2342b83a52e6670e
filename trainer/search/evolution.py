"""Multi-objective evolution (Kim and Cho 2021, section 3.4; Cai et al. 2020, "Once-for-All", section 3.3).

Begins with constant-ratio configurations and both ends.  Each round takes parents from the Pareto set of all that
was evaluated: a mutation redraws each layer, with probability 1/2, between its neighbours' values; a
cross-over is the mean of two parents.

Why not pymoo: its loop keeps a population of fixed size and spreads it by crowding, where this evolution keeps
the whole Pareto set and one evaluation costs a minute; monotone integers would need a sampling, mutation,
cross-over and repair of our own anyway, and its generations cannot be replayed one evaluation at a time, which
is what makes a search resumable.  What would be left of it is the loop below, at nine more dependencies.
(The published code drops a child whose *cost and score fields* look known; here genes are compared.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from trainer.search.front import Evaluation, non_dominated
from trainer.search.genes import Genes, GeneSpace

MUTATION_PROBABILITY = 0.5
ATTEMPTS = 200
"""Draws of one child before a round does without it."""


class EvolutionSearcher:
    """`core.Searcher` by evolution.

    Args:
        space: where.
        first: the first population.
        rng: draws parents and mutations; at the beginning of each round only.
        offspring: mutations per round, and as many cross-overs.
    """

    def __init__(self, space: GeneSpace, first: Iterable[Genes], rng: np.random.Generator, offspring: int) -> None:
        self._space = space
        self._rng = rng
        self._offspring = offspring
        self._waiting = deque(dict.fromkeys(first))
        self._seen: set[Genes] = set(self._waiting)
        self._evaluations: list[Evaluation] = []

    def ask(self) -> Genes | None:
        """The next child; a new round is bred when the one before is used up."""
        if not self._waiting:
            self._breed()
        return self._waiting.popleft() if self._waiting else None

    def tell(self, evaluation: Evaluation) -> None:
        """Remember it as a parent to be."""
        self._evaluations.append(evaluation)

    def _breed(self) -> None:
        parents = [each.genes for each in non_dominated(self._evaluations)]
        for _ in range(self._offspring):
            self._add(lambda: mutate(self._space, self._parent(parents), self._rng))
        for _ in range(self._offspring):
            self._add(lambda: cross(self._parent(parents), self._parent(parents)))
        if not self._waiting:  # all near relations are known: look further
            self._add(lambda: mutate(self._space, self._parent(sorted(self._seen)), self._rng))

    def _parent(self, parents: Sequence[Genes]) -> Genes:
        return parents[int(self._rng.integers(len(parents)))]

    def _add(self, draw: Callable[[], Genes]) -> None:
        for _ in range(ATTEMPTS):
            child = draw()
            if child not in self._seen:
                self._seen.add(child)
                self._waiting.append(child)
                return


def mutate(space: GeneSpace, genes: Genes, rng: np.random.Generator) -> Genes:
    """Redraw each layer with probability 1/2 between its neighbours, from the first layer to the last.

    The neighbour before is the mutated one, the one behind still the parent's, so nothing ever rises.  The
    first layer is bounded by ``full``, the last by the space's smallest.
    """
    mutated: list[int] = []
    for layer, gene in enumerate(genes):
        high = mutated[-1] if mutated else space.levels
        low = genes[layer + 1] if layer + 1 < len(genes) else 0
        low = max(low, space.smallest[layer])
        redraw = rng.random() < MUTATION_PROBABILITY
        mutated.append(int(rng.integers(low, high + 1)) if redraw else gene)
    return tuple(mutated)


def cross(first: Genes, second: Genes) -> Genes:
    """The mean of two, rounded down: between its parents layer by layer, and never rising as they do not."""
    return tuple((a + b) // 2 for a, b in zip(first, second, strict=True))
