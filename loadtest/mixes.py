"""What each request asks, and within which budget: drawn before the run, every dimension with a seed of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import joined
from loadtest.scenario import BudgetClass, LengthClass, Scenario, Seeds
from reading import SquadDataset, SquadRecord

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """A question where it stands.

    Attributes:
        record: the question with its gold answers.
        paragraphs: contexts of its article, in order.
        place: index of its own.
    """

    record: SquadRecord
    paragraphs: tuple[str, ...]
    place: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget class with its budget known.

    Attributes:
        label: of the class.
        ms: None without a budget.
        tell: whether the server is told.
    """

    label: str
    ms: float | None
    tell: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to make.

    Attributes:
        record: the question with its gold answers.
        context: what is asked about: its paragraph, alone or among its neighbours.
        budget: of the caller.
        length: label of the length class.
    """

    record: SquadRecord
    context: str
    budget: Budget
    length: str


def places_of(dataset: SquadDataset) -> list[Place]:
    """Every question of a file.

    Raises:
        ValueError: there is none.
    """
    found = [
        Place(SquadRecord(each.id, article.title, paragraph.context, each.text, each.answers), texts, index)
        for article in dataset.articles
        for texts in [tuple(paragraph.context for paragraph in article.paragraphs)]
        for index, paragraph in enumerate(article.paragraphs)
        for each in paragraph.questions
    ]
    if not found:
        raise ValueError("there are no questions to ask")
    return found


def budgets_of(classes: Sequence[BudgetClass], idle_full_ms: float | None) -> list[Budget]:
    """Budget classes with their budgets in milliseconds.

    Args:
        classes: of a scenario.
        idle_full_ms: median latency of the configuration full on an idle server; needed for `BudgetClass.x_full`.

    Raises:
        ValueError: a budget is relative to a latency that is not known.
    """
    found = []
    for each in classes:
        ms = each.ms
        if each.x_full is not None:
            if idle_full_ms is None:
                raise ValueError(f"the budget {each.label} is relative to a latency that was not measured")
            ms = round(each.x_full * idle_full_ms, 3)
        found.append(Budget(each.label, ms, each.tell))
    return found


def generators(seeds: Seeds, draw: int) -> Mapping[str, np.random.Generator]:
    """A generator per dimension; `draw` tells runs of one scenario apart (the probes of a search)."""
    return {name: np.random.default_rng([seed, draw]) for name, seed in seeds.model_dump().items()}


def make_asks(
    scenario: Scenario, places: Sequence[Place], budgets: Sequence[Budget], count: int, draw: int = 0
) -> list[Ask]:
    """`count` requests; a longer list of the same draw begins with a shorter one's classes."""
    drawn = generators(scenario.seeds, draw)
    chosen = _chosen(places, scenario.questions.distinct, drawn["questions"])
    questions = drawn["questions"].integers(len(chosen), size=count)
    of_length = _classes([each.share for each in scenario.questions.lengths], drawn["lengths"].random(count))
    targets = drawn["lengths"].random(count)
    of_budget = _classes([each.share for each in scenario.budgets], drawn["budgets"].random(count))
    asks = []
    for question, length, target, budget in zip(questions, of_length, targets, of_budget, strict=True):
        place, kind = chosen[question], scenario.questions.lengths[length]
        asks.append(Ask(place.record, _context(place, kind, float(target)), budgets[budget], kind.label))
    return asks


def _chosen(places: Sequence[Place], distinct: int | None, generator: np.random.Generator) -> Sequence[Place]:
    if distinct is None or distinct >= len(places):
        return places
    return [places[index] for index in generator.permutation(len(places))[:distinct]]


def _classes(shares: Sequence[float], uniform: NDArray[np.float64]) -> IntArray:
    """Index of a class for each number in [0, 1)."""
    index = np.searchsorted(np.cumsum(shares), uniform, side="right")
    return np.minimum(index, len(shares) - 1).astype(np.int64)


def _context(place: Place, kind: LengthClass, uniform: float) -> str:
    """The paragraph, with as many neighbours as a log-uniform length allows."""
    if kind.chars is None:
        return place.record.context
    low, high = np.log(kind.chars)
    return joined(place.paragraphs, place.place, round(float(np.exp(low + uniform * (high - low)))))
