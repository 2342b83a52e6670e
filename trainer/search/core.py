"""The search itself: ask a searcher, evaluate, tell it; no clock, no files, no randomness but the generator's.

A searcher is deterministic: what it asks next depends on the generator's state and on what it was told.  So a
search is resumed by replaying it: evaluations that were recorded are told again without being made again,
and from then on it goes its way as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model_store import LengthConfiguration
from trainer.search.front import Evaluation, non_dominated
from trainer.search.genes import Genes, GeneSpace

SEARCHERS = ("evolution", "tpe")

CostFunction = Callable[[LengthConfiguration], float]
"""What a configuration costs; less is better."""

ScoreFunction = Callable[[LengthConfiguration], float]
"""How well it answers; more is better."""


class Searcher(Protocol):
    """Proposes genes, each at most once."""

    def ask(self) -> Genes | None:
        """Genes not asked before; None if no new ones were found, which ends the search."""

    def tell(self, evaluation: Evaluation) -> None:
        """The evaluation of the genes asked last."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How to search.

    Attributes:
        space: where.
        searcher: one of `SEARCHERS`.
        evaluations: how many to make in all, recorded ones included.
        constant_ratios: configurations of constant-ratio dropping that every search begins with, both ends
            included: its first population, with `GeneSpace.skimmed`, and the baseline that it must beat.
        offspring: of `evolution`, mutations per round and as many cross-overs.
        known_good: what an earlier search found good, say of the same model before more training: joins the
            first population.

    Raises:
        ValueError: an unknown searcher, a number that is too small, or genes of another space.
    """

    space: GeneSpace
    searcher: str = "evolution"
    evaluations: int = 300
    constant_ratios: int = 22
    offspring: int = 30
    known_good: tuple[Genes, ...] = ()

    def __post_init__(self) -> None:
        if self.searcher not in SEARCHERS:
            raise ValueError(f"there is no searcher {self.searcher!r}; the searchers are {', '.join(SEARCHERS)}")
        if self.evaluations < 2 or self.constant_ratios < 2 or self.offspring < 1:
            raise ValueError("a search needs 2 evaluations, 2 constant ratios and 1 offspring at least")
        for genes in self.known_good:
            self.space.check(genes)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found.

    Attributes:
        evaluations: every one, dominated ones included, in the order in which they were made.
        interrupted: whether `KeyboardInterrupt` ended the search.
    """

    evaluations: tuple[Evaluation, ...]
    interrupted: bool = False

    @property
    def front(self) -> tuple[Evaluation, ...]:
        """The non-dominated ones, cheapest first."""
        return non_dominated(self.evaluations)


def search(  # noqa: PLR0913 - the pure core: everything that it depends on is an argument
    cost_fn: CostFunction,
    score_fn: ScoreFunction,
    rng: np.random.Generator,
    settings: SearchSettings,
    *,
    recorded: Iterable[Evaluation] = (),
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> SearchResult:
    """Evaluate configurations, each once, in search of the Pareto front.

    Args:
        cost_fn: called once per new configuration, before `score_fn`.
        score_fn: called once per new configuration.
        rng: the only source of randomness; the same state gives the same search.
        settings: where, how and how long.
        recorded: evaluations of an earlier run from the same state of `rng`; they are not made again.  Those
            that this search does not come to are kept at the end of the result.
        on_evaluation: gets every new evaluation at once, so that it can be saved.

    Returns:
        The result; after `KeyboardInterrupt` with all that was evaluated until then.

    Raises:
        ValueError: recorded evaluations of another space.
    """
    known = {settings.space.check(each.genes): each for each in recorded}
    made: dict[Genes, Evaluation] = {}
    interrupted = False
    try:
        searcher = make_searcher(settings, rng)
        while len(made) < settings.evaluations and (genes := searcher.ask()) is not None:
            evaluation = known.get(genes)
            if evaluation is None:
                configuration = settings.space.configuration(genes)
                evaluation = Evaluation(genes, float(cost_fn(configuration)), float(score_fn(configuration)))
                made[genes] = evaluation
                if on_evaluation is not None:
                    on_evaluation(evaluation)
            made[genes] = evaluation
            searcher.tell(evaluation)
    except KeyboardInterrupt:
        interrupted = True
    return SearchResult(tuple((made | known).values()), interrupted)


def make_searcher(settings: SearchSettings, rng: np.random.Generator) -> Searcher:
    """The searcher that `settings` name; Optuna is imported only for its own."""
    first = settings.space.constant_ratios(settings.constant_ratios) + settings.space.skimmed() + settings.known_good
    if settings.searcher == "tpe":
        from trainer.search.tpe import TpeSearcher

        return TpeSearcher(settings.space, first, rng)
    from trainer.search.evolution import EvolutionSearcher

    return EvolutionSearcher(settings.space, first, rng, settings.offspring)
