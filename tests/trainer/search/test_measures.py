"""Costs, scores, and which questions they are made on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store import LengthConfiguration, ModelStore, full_configuration
from reading import Article, Paragraph, Question, ReferenceAnswer, SquadDataset, Window
from server.engine.fake import FakeEngine
from server.engine.interface import EngineResult, WindowTokens
from tests.model_store.tiny_artifact import TINY, publish_tiny
from tests.trainer.helpers import excerpt
from trainer.search.costs import interleaved_times, macs_cost, nominal_length, time_cost
from trainer.search.genes import GeneSpace
from trainer.search.scores import draw, f1_score, sample_windows, split_articles

HALF = LengthConfiguration("half", (0.5, 0.5))
FULL = full_configuration(2)
WINDOW = Window(np.full(16, 3, dtype=np.int32), 4, 0, 11)


class TimedEngine(FakeEngine):
    """Every call moves the clock: by 10 ns if it drops tokens, else by 40 ns; the nth call by `lags` [n] more."""

    def __init__(self, lags: Sequence[int] = ()) -> None:
        super().__init__(TINY)
        self.now_ns = 0
        self._lags = iter(lags)
        self.ran: list[str] = []

    def clock_ns(self) -> int:
        return self.now_ns

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        self.ran.append(configuration.id)
        self.now_ns += (40 if configuration.is_full else 10) + next(self._lags, 0)
        return EngineResult((), 0)


def test_times_are_interleaved_medians_without_the_first_round() -> None:
    # rounds of (half, full): one not counted, then three; the last is slow for both
    engine = TimedEngine([1000, 1000, 0, 0, 2, 4, 500, 500])
    assert interleaved_times(engine, [HALF, FULL], [WINDOW], 3, engine.clock_ns) == [12.0, 44.0]
    assert engine.ran == ["half", "full"] * 4


def test_times_are_summed_over_windows() -> None:
    engine = TimedEngine()
    assert interleaved_times(engine, [HALF], [WINDOW, WINDOW], 1, engine.clock_ns) == [20.0]


def test_the_cost_in_time_is_a_share_of_the_full_models() -> None:
    engine = TimedEngine()
    cost = time_cost(engine, [WINDOW], 3, engine.clock_ns)
    assert (cost(HALF), cost(FULL)) == (0.25, 1.0)


def test_times_of_nothing_are_refused() -> None:
    for configurations, windows, rounds in (([], [WINDOW], 1), ([HALF], [], 1), ([HALF], [WINDOW], 0)):
        with pytest.raises(ValueError, match="at least"):
            interleaved_times(TimedEngine(), configurations, windows, rounds)


@pytest.mark.parametrize(("mean", "length"), [(168.4, 168), (173.0, 176), (1.0, 8)])
def test_the_nominal_length_is_a_whole_number_of_steps(mean: float, length: int) -> None:
    assert nominal_length(mean) == length


def test_at_the_nominal_length_every_gene_keeps_its_own_tokens() -> None:
    space = GeneSpace(21, (1, 1))
    cost = macs_cost(TINY, 168)
    costs = []
    for gene in range(1, 22):
        configuration = space.configuration((gene, gene))
        assert configuration.kept_tokens(168) == (gene * 8, gene * 8)
        costs.append(cost(configuration))
    assert len(set(costs)) == 21
    assert costs == sorted(costs)


def dataset(sizes: Sequence[int]) -> SquadDataset:
    """An article per size, with so many questions."""
    answers = (ReferenceAnswer("king", 4, (4,)),)
    return SquadDataset(
        "1.1",
        tuple(
            Article(
                f"t{place}",
                (Paragraph("the king", tuple(Question(f"{place}-{n}", "who", answers) for n in range(size))),),
            )
            for place, size in enumerate(sizes)
        ),
    )


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 99))
def test_the_halves_share_no_article_lose_none_and_weigh_alike(sizes: list[int], seed: int) -> None:
    given_ = dataset(sizes)
    halves = split_articles(given_, seed)
    search = {article.title for article in halves.search.articles}
    table = {article.title for article in halves.table.articles}
    assert not search & table
    assert search | table == {article.title for article in given_.articles}
    assert abs(len(halves.search) - len(halves.table)) <= max(sizes)
    assert split_articles(given_, seed) == halves


def test_one_article_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="two articles"):
        split_articles(dataset([3]), 0)


def test_no_question_is_drawn_for_both_halves() -> None:
    halves = split_articles(excerpt(), 0)
    ids = [{record.id for record in draw(half, 5, 0)} for half in (halves.search, halves.table)]
    assert [len(part) for part in ids] == [5, 5]
    assert not ids[0] & ids[1]
    assert len(draw(halves.table, 0, 0)) == len(halves.table)


def test_the_score_is_f1_in_percent_of_the_artifact(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    artifact = ModelStore(tmp_path).load("tiny")
    engine = FakeEngine(TINY)
    questions = draw(dataset([2, 2]), 0, 0)
    assert f1_score(artifact, [engine], questions)(HALF) in {0.0, 100.0}  # "the king" without its article, or not
    assert engine.calls == 4
    windows = sample_windows(artifact, questions, 3)
    assert [len(window) for window in windows] == [6, 6, 6]  # [CLS] who [SEP] the king [SEP]
    with pytest.raises(ValueError, match="at least"):
        sample_windows(artifact, [], 3)
