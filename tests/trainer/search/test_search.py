from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from model_store import Architecture, LengthConfiguration
from reading import QuestionScores
from tests.trainer.search import toy
from trainer.search import Evaluation, GeneSpace, SearchSettings, area_under_frontier, search
from trainer.search.core import SEARCHERS
from trainer.search.costs import macs_cost
from trainer.search.table import LEAST_STEP, candidates, make_table, rescore

both = pytest.mark.parametrize("searcher", SEARCHERS)
searches = st.builds(
    lambda searcher, evaluations, levels, drop: toy.settings(searcher, evaluations, GeneSpace.of_drop(3, levels, drop)),
    st.sampled_from(SEARCHERS),
    st.integers(2, 40),
    st.integers(1, 12),
    st.floats(0.0, 0.7),
)
seeds = st.integers(0, 2**32 - 1)
few = hypothesis_settings(max_examples=25)


def test_evolution_finds_the_whole_front_of_a_space_it_can_exhaust() -> None:
    result = toy.run(toy.settings("evolution", 1000))
    assert {each.genes for each in result.evaluations} == {each.genes for each in toy.everything()}
    assert result.front == toy.true_front()


@both
def test_a_search_comes_close_to_the_true_front_in_a_fraction_of_the_space(searcher: str) -> None:
    space = GeneSpace(12, (4, 3, 2))
    everything, front = toy.everything(space), toy.true_front(space)
    result = toy.run(toy.settings(searcher, len(everything) // 3, space))
    low, high = front[0].cost, front[-1].cost
    assert area_under_frontier(result.evaluations, low, high) > 0.985 * area_under_frontier(front, low, high)


@both
def test_a_search_beats_the_constant_ratios_that_it_begins_with(searcher: str) -> None:
    result = toy.run(toy.settings(searcher, 40))
    first = [toy.evaluate(genes) for genes in toy.SPACE.constant_ratios(6)]
    assert list(result.evaluations[: len(first)]) == first
    low, high = first[-1].cost, first[0].cost
    assert area_under_frontier(result.evaluations, low, high) > area_under_frontier(first, low, high)


@both
def test_what_is_known_to_be_good_is_evaluated_after_the_constant_ratios(searcher: str) -> None:
    known_good = ((4, 3, 2), (6, 6, 6), (6, 5, 1))  # the second is `full`, which every search begins with
    result = toy.run(dataclasses.replace(toy.settings(searcher, 12), known_good=known_good))
    first = dict.fromkeys((*toy.SPACE.constant_ratios(6), *known_good))
    assert [each.genes for each in result.evaluations[: len(first)]] == list(first)


@few
@given(searches, seeds)
def test_every_configuration_is_evaluated_once_within_the_space_and_never_rises(
    settings: SearchSettings, seed: int
) -> None:
    asked: list[LengthConfiguration] = []

    def cost(configuration: LengthConfiguration) -> float:
        asked.append(configuration)
        return toy.cost(configuration)

    result = search(cost, toy.score, np.random.default_rng(seed), settings)
    assert len({each.genes for each in result.evaluations}) == len(result.evaluations) == len(asked)
    assert len(asked) <= settings.evaluations
    assert asked[0].is_full
    for each in result.evaluations:
        settings.space.check(each.genes)
    for configuration in asked:
        assert all(later <= earlier for earlier, later in pairwise(configuration.ratios))


@few
@given(searches, seeds, st.data())
def test_resumed_equals_uninterrupted(settings: SearchSettings, seed: int, data: st.DataObject) -> None:
    whole = toy.run(settings, seed)
    stop = data.draw(st.integers(0, len(whole.evaluations)))
    left = iter([False] * stop + [True])

    def score(configuration: LengthConfiguration) -> float:
        if next(left, False):
            raise KeyboardInterrupt
        return toy.score(configuration)

    saved: list[Evaluation] = []
    rng = np.random.default_rng(seed)
    part = search(toy.cost, score, rng, settings, on_evaluation=saved.append)
    assert part.interrupted == (stop < len(whole.evaluations))
    assert part.evaluations == tuple(saved) == whole.evaluations[:stop]

    made: list[Evaluation] = []
    again = np.random.default_rng(seed)
    rest = search(toy.cost, toy.score, again, settings, recorded=saved, on_evaluation=made.append)
    assert rest.evaluations == whole.evaluations
    assert tuple(made) == whole.evaluations[stop:]


@few
@given(searches, seeds)
def test_the_same_seed_gives_the_same_table_without_a_dominated_point(settings: SearchSettings, seed: int) -> None:
    architecture = Architecture(layers=3, hidden=8, heads=2, intermediate=16, vocabulary=10, positions=128)
    space = settings.space
    lengths = range(space.levels * 8, 129, 5)

    def answer(configuration: LengthConfiguration) -> QuestionScores:
        noise = np.random.default_rng(len(configuration.id)).uniform(0.0, 0.3, 30)
        f1 = np.clip(toy.score(configuration) / 10.0 + noise, 0.0, 1.0)
        return QuestionScores((f1 > 0.5).astype(np.float64), f1, 0)

    def table() -> bytes:
        found = toy.run(settings, seed).evaluations
        rescored = rescore(space, candidates(space, found, 8), answer, seed=1)
        made = make_table(space, rescored, partial(macs_cost, architecture), lengths, 5)
        assert len(made.points) <= 5
        assert made.full.configuration.is_full
        for point in made.points[:-1]:
            assert not any(other.dominates(point) for other in made.points)
        for length in lengths:
            costs = [macs_cost(architecture, length)(point.configuration) for point in made.points]
            assert (np.diff(costs) > 0.999 * LEAST_STEP * costs[-1]).all()
        return made.to_json()

    assert table() == table()


def test_an_interruption_while_saving_keeps_what_was_saved() -> None:
    saved: list[Evaluation] = []

    def save(evaluation: Evaluation) -> None:
        saved.append(evaluation)
        if len(saved) == 3:
            raise KeyboardInterrupt

    result = search(toy.cost, toy.score, np.random.default_rng(0), toy.settings(), on_evaluation=save)
    assert result.interrupted
    assert list(result.evaluations) == saved


def test_recorded_evaluations_that_the_search_does_not_come_to_are_kept() -> None:
    whole = toy.run(toy.settings(evaluations=30)).evaluations
    shorter = search(toy.cost, toy.score, np.random.default_rng(0), toy.settings(evaluations=10), recorded=whole)
    assert shorter.evaluations == whole


def test_recorded_evaluations_of_another_space_are_refused() -> None:
    with pytest.raises(ValueError, match="genes must be"):
        search(
            toy.cost, toy.score, np.random.default_rng(0), toy.settings(), recorded=[Evaluation((9, 9, 9), 1.0, 1.0)]
        )


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="the searchers are evolution, tpe"):
        toy.settings("annealing")
    for wrong in ({"evaluations": 1}, {"constant_ratios": 1}, {"offspring": 0}):
        with pytest.raises(ValueError, match="at least"):
            dataclasses.replace(toy.settings(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="genes must be"):
        dataclasses.replace(toy.settings(), known_good=((9, 9, 9),))
