"""Multi-objective TPE (Ozaki et al. 2022) by Optuna: Dynamic-TinyBERT's hyper-parameter optimisation.

Each layer's count is a fraction of the count before, so every proposal is monotone by construction: of 6 layers
drawn freely only one in hundreds would be.  Proposals that round to known genes are failed trials to Optuna: the
sampler draws on, and no point weighs twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from trainer.search.front import Evaluation
from trainer.search.genes import Genes, GeneSpace

ATTEMPTS = 300
"""Known genes in a row after which the sampler counts as having nothing new to say."""


class TpeSearcher:
    """`core.Searcher` by Optuna's `TPESampler`, layers modelled jointly.

    Args:
        space: where.
        first: evaluated before the sampler proposes anything.
        rng: gives the sampler its seed.
    """

    def __init__(self, space: GeneSpace, first: Iterable[Genes], rng: np.random.Generator) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._waiting = deque(dict.fromkeys(first))
        self._seen: set[Genes] = set()
        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)), multivariate=True, constant_liar=False)
        self._study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        self._asked: Trial | None = None

    def ask(self) -> Genes | None:
        """The first ones, then what the sampler proposes."""
        for _ in range(ATTEMPTS):
            if self._waiting:
                self._study.enqueue_trial(fractions(self._space, self._waiting.popleft()))
            trial = self._study.ask()
            genes = self._genes(trial)
            if genes not in self._seen:
                self._seen.add(genes)
                self._asked = trial
                return genes
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def tell(self, evaluation: Evaluation) -> None:
        """Hand cost and score to the sampler; raises ValueError if nothing was asked."""
        if self._asked is None:
            raise ValueError("nothing was asked")
        self._study.tell(self._asked, [evaluation.cost, evaluation.score])
        self._asked = None

    def _genes(self, trial: Trial) -> Genes:
        genes: list[int] = []
        for layer, smallest in enumerate(self._space.smallest):
            before = genes[-1] if genes else self._space.levels
            fraction = trial.suggest_float(_name(layer), smallest / self._space.levels, 1.0)
            genes.append(max(smallest, round(fraction * before)))
        return self._space.check(tuple(genes))


def fractions(space: GeneSpace, genes: Genes) -> dict[str, float]:
    """The parameters that give `genes`: each count as a fraction of the one before."""
    before = (space.levels, *genes)
    return {_name(layer): gene / before[layer] for layer, gene in enumerate(genes)}


def _name(layer: int) -> str:
    return f"keep_{layer}"
