from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from tests.trainer.search import toy
from trainer.search import Evaluation, Genes, GeneSpace
from trainer.search.evolution import EvolutionSearcher, cross, mutate
from trainer.search.genes import constant_drop
from trainer.search.tpe import TpeSearcher, fractions


class Script:
    """A generator that says what it is told to, and notes the bounds that it was asked for."""

    def __init__(self, redraws: Sequence[bool], values: Sequence[int]) -> None:
        self._redraws = iter(redraws)
        self._values = iter(values)
        self.bounds: list[tuple[int, int]] = []

    def random(self) -> float:
        return 0.0 if next(self._redraws) else 0.9

    def integers(self, low: int, high: int) -> int:
        self.bounds.append((low, high - 1))
        return next(self._values)


def mutated(genes: Genes, redraws: Sequence[bool], values: Sequence[int]) -> tuple[Genes, list[tuple[int, int]]]:
    script = Script(redraws, values)
    return mutate(GeneSpace(10, (5, 3, 2)), genes, cast(Any, script)), script.bounds


def test_a_mutation_draws_between_the_neighbours_values() -> None:
    assert mutated((8, 6, 4), (False, True, False), (5,)) == ((8, 5, 4), [(4, 8)])


def test_a_mutation_sees_the_mutated_layer_before_and_the_parents_behind() -> None:
    # first: between 6 (behind) and 10 (full); second: 4 to the new 7; third: the smallest, 2, to the new 4
    assert mutated((8, 6, 4), (True, True, True), (7, 4, 3)) == ((7, 4, 3), [(6, 10), (4, 7), (2, 4)])


def test_a_mutation_stays_above_the_smallest_of_its_layer() -> None:
    assert mutated((6, 3, 2), (True, False, False), (5,)) == ((5, 3, 2), [(5, 10)])


def test_a_cross_over_is_the_mean_rounded_down() -> None:
    assert cross((10, 7, 2), (8, 4, 3)) == (9, 5, 2)


def test_evolution_breeds_from_the_pareto_set_and_never_twice_the_same() -> None:
    first: tuple[Genes, ...] = ((6, 6, 6), (3, 2, 1), (6, 6, 6), (4, 4, 4))
    searcher = EvolutionSearcher(toy.SPACE, first, np.random.default_rng(0), 3)
    asked: list[Genes] = []
    while (genes := searcher.ask()) is not None:
        asked.append(genes)
        dominated = genes == (4, 4, 4)
        searcher.tell(Evaluation(genes, 100.0, 0.0) if dominated else toy.evaluate(genes))
    assert asked[:3] == [(6, 6, 6), (3, 2, 1), (4, 4, 4)]
    assert len(set(asked)) == len(asked) == len(toy.everything())


def test_equal_cost_and_score_do_not_make_configurations_equal() -> None:
    """The published code takes a child for known when its figures are."""
    searcher = EvolutionSearcher(toy.SPACE, [(6, 6, 6), (3, 2, 1)], np.random.default_rng(0), 3)
    asked = []
    while (genes := searcher.ask()) is not None:
        asked.append(genes)
        searcher.tell(Evaluation(genes, 1.0, 1.0))
    assert len(asked) == len(toy.everything())


def test_fractions_are_of_the_layer_before_and_lead_back_to_their_genes() -> None:
    assert fractions(toy.SPACE, (6, 3, 2)) == {"keep_0": 1.0, "keep_1": 0.5, "keep_2": 2 / 3}
    every = [each.genes for each in toy.everything()]
    searcher = TpeSearcher(toy.SPACE, every, np.random.default_rng(0))
    for genes in every:
        assert searcher.ask() == genes
        searcher.tell(toy.evaluate(genes))
    assert searcher.ask() is None  # nothing is left


def test_tpe_is_told_only_what_it_asked() -> None:
    with pytest.raises(ValueError, match="nothing was asked"):
        TpeSearcher(toy.SPACE, [], np.random.default_rng(0)).tell(toy.evaluate((6, 6, 6)))


def test_constant_dropping_rounds_up_layer_by_layer() -> None:
    assert constant_drop(3, 10, 0.3) == (7, 5, 4)  # 4.9 and 3.5, both up
    assert constant_drop(3, 10, 0.0) == (10, 10, 10)
    assert constant_drop(4, 2, 0.9) == (1, 1, 1, 1)


def test_constant_ratios_hold_both_ends_and_nothing_twice() -> None:
    space = GeneSpace.of_drop(6, 21, 0.4)
    assert space.smallest == (13, 8, 5, 3, 2, 2)
    found = space.constant_ratios(22)
    assert (found[0], found[-1]) == (space.full, space.smallest)
    assert len(set(found)) == len(found) > 12
    assert [sum(genes) for genes in found] == sorted((sum(genes) for genes in found), reverse=True)
    for genes in found:
        space.check(genes)
    with pytest.raises(ValueError, match="two configurations"):
        space.constant_ratios(1)


def test_genes_become_ratios_of_the_levels() -> None:
    configuration = toy.SPACE.configuration((6, 3, 2))
    assert (configuration.id, configuration.ratios) == ("6-3-2", (1.0, 0.5, 2 / 6))
    assert toy.SPACE.configuration(toy.SPACE.full).id == "full"


def test_exempt_steps_change_counts_at_other_lengths_than_the_nominal_alone() -> None:
    plain, exempting = GeneSpace(21, (13, 8, 2)), GeneSpace(21, (13, 8, 2), exempt=2)
    one, other = (space.configuration((21, 11, 2)) for space in (plain, exempting))
    assert other.exempt_tokens == 16
    assert other.ratios == (1.0, 9 / 19, 0.0)
    assert one.kept_tokens(168) == other.kept_tokens(168) == (168, 88, 16)
    assert (one.kept_tokens(80), other.kept_tokens(80)) == ((80, 48, 8), (80, 48, 16))  # 41.9 and 46.3, up
    assert (one.kept_tokens(384), other.kept_tokens(384)) == ((384, 208, 40), (384, 192, 16))
    assert exempting.configuration(exempting.full).exempt_tokens == 0


def test_no_layer_keeps_fewer_than_the_exempt_steps() -> None:
    assert GeneSpace.of_drop(3, 10, 0.5, exempt=4).smallest == (5, 4, 4)
    with pytest.raises(ValueError, match="exempt"):
        GeneSpace.of_drop(3, 4, 0.5, exempt=4)
    with pytest.raises(ValueError, match="exempt"):
        GeneSpace(21, (13, 8, 2), exempt=3)


def test_where_a_space_skims_the_first_gene_is_what_the_first_layer_sees() -> None:
    space = GeneSpace(21, (7, 7, 5, 2), exempt=2, skims=True)
    configuration = space.configuration((12, 12, 7, 2))
    assert (configuration.id, configuration.input_ratio, configuration.exempt_tokens) == ("12-12-7-2", 10 / 19, 16)
    assert configuration.ratios == (1.0, 0.5, 0.0)
    assert (configuration.input_tokens(168), configuration.kept_tokens(96)) == (96, (96, 56, 16))
    assert (space.layers, space.full) == (3, (21,) * 4)
    assert space.configuration(space.full).is_full


def test_the_space_of_a_drop_skims_down_to_what_the_input_drop_leaves() -> None:
    assert GeneSpace.of_drop(6, 21, 0.4, exempt=2).smallest == (13, 8, 5, 3, 2, 2)
    space = GeneSpace.of_drop(6, 21, 0.4, exempt=2, input_drop=0.7)
    assert (space.smallest, space.skims) == ((7, 7, 7, 5, 3, 2, 2), True)
    assert GeneSpace.of_drop(2, 4, 0.5, exempt=2, input_drop=0.9).smallest == (3, 2, 2)
    with pytest.raises(ValueError, match="drops must be"):
        GeneSpace.of_drop(3, 8, 0.5, input_drop=1.0)
    with pytest.raises(ValueError, match="exempt"):
        GeneSpace(21, (2, 2), exempt=2, skims=True)


def test_a_search_that_skims_begins_with_constant_dropping_and_with_skimming_that_drops_late_or_not() -> None:
    space = GeneSpace(6, (3, 3, 2, 1), skims=True)
    constant = space.constant_ratios(6)
    assert all(genes[0] == 6 for genes in constant)
    assert constant[0] == space.full
    skimmed = ((5, 5, 5, 5), (5, 5, 3, 1), (4, 4, 4, 4), (4, 4, 2, 1), (3, 3, 3, 3), (3, 3, 2, 1))
    assert space.skimmed() == skimmed
    assert GeneSpace(6, (4, 1), skims=True).skimmed() == ((5, 5), (4, 4))
    assert GeneSpace(6, (5, 5, 5), skims=True).skimmed() == ((5, 5, 5),)
    assert toy.SPACE.skimmed() == ()
    result = toy.run(toy.settings(evaluations=len(constant) + len(skimmed), space=space))
    assert [each.genes for each in result.evaluations] == [*constant, *skimmed]


@pytest.mark.parametrize("searcher", ["evolution", "tpe"])
def test_both_searchers_find_configurations_that_skim(searcher: str) -> None:
    space = GeneSpace(6, (2, 2, 2, 1), skims=True)
    found = {each.genes for each in toy.run(toy.settings(searcher, 36, space)).evaluations}
    assert len(found) == 36
    assert any(6 > genes[0] > genes[-1] for genes in found.difference(space.skimmed()))


@pytest.mark.parametrize("genes", [(6, 6), (5, 6, 1), (7, 6, 1), (6, 1, 1)])
def test_genes_outside_the_space_are_refused(genes: Genes) -> None:
    with pytest.raises(ValueError, match="genes must be"):
        toy.SPACE.check(genes)


def test_spaces_without_sense_are_refused() -> None:
    for levels, smallest in ((4, ()), (4, (5,)), (4, (0,)), (4, (1, 2))):
        with pytest.raises(ValueError, match="smallest genes"):
            GeneSpace(levels, smallest)
    with pytest.raises(ValueError, match="drops must be"):
        GeneSpace.of_drop(3, 8, 1.0)
