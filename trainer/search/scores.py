"""How well a configuration answers, and on which questions: the search's, or the table's, never both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_store import Artifact, LengthConfiguration
from reading import Article, SquadDataset, SquadRecord, Window, sample_questions
from server.engine.interface import Engine
from trainer.evaluation import cut_questions, evaluate_questions
from trainer.search.core import ScoreFunction

SPLIT_SEED = 0
"""Of the draw of the two halves."""


@dataclass(frozen=True, slots=True)
class Halves:
    """The held-out articles in two disjoint parts.

    Attributes:
        search: what the searcher sees F1 of.
        table: what the frontier is scored again on; these figures are published.
    """

    search: SquadDataset
    table: SquadDataset


def split_articles(held_out: SquadDataset, seed: int) -> Halves:
    """Whole articles, in a seeded order, each to the half that has fewer questions by then.

    Raises:
        ValueError: fewer than two articles.
    """
    articles = held_out.articles
    if len(articles) < 2:
        raise ValueError(f"two halves need two articles, not {len(articles)}")
    halves: tuple[list[Article], list[Article]] = ([], [])
    sizes = [0, 0]
    for place in np.random.default_rng(seed).permutation(len(articles)).tolist():
        smaller = 0 if sizes[0] <= sizes[1] else 1
        halves[smaller].append(articles[place])
        sizes[smaller] += sum(len(paragraph.questions) for paragraph in articles[place].paragraphs)
    return Halves(*(SquadDataset(held_out.version, tuple(half)) for half in halves))


def draw(dataset: SquadDataset, questions: int, seed: int) -> list[SquadRecord]:
    """A seeded sample over all articles; every question if `questions` is 0."""
    return sample_questions(dataset, questions, seed) if questions else list(dataset)


def f1_score(artifact: Artifact, engines: Sequence[Engine], questions: Sequence[SquadRecord]) -> ScoreFunction:
    """Score function: F1 in percent of `questions` through `engines`, side by side."""

    def score(configuration: LengthConfiguration) -> float:
        return 100.0 * float(evaluate_questions(artifact, engines, configuration, questions, progress=False).f1.mean())

    return score


def sample_windows(artifact: Artifact, questions: Sequence[SquadRecord], count: int) -> list[Window]:
    """The first window of `count` questions whose lengths stand for all: evenly spaced quantiles.

    Raises:
        ValueError: no question, or `count` under 1.
    """
    if not questions or count < 1:
        raise ValueError("a sample of windows needs a question and a count of 1 at least")
    windows = [each.windows[0] for each in cut_questions(artifact, questions)]
    windows.sort(key=len)
    middles = (np.arange(count) + 0.5) / count * len(windows)
    return [windows[int(place)] for place in middles]
