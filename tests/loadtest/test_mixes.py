from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from loadtest.mixes import Ask, Budget, budgets_of, make_asks, places_of
from reading import Article, Paragraph, Question, ReferenceAnswer, SquadDataset
from tests.loadtest.makers import scenario

BUDGETS = [
    {"label": "tight", "share": 0.25, "x_full": 2},
    {"label": "loose", "share": 0.6, "ms": 500},
    {"label": "none", "share": 0.15},
]
LENGTHS = {"lengths": [{"label": "paragraph", "share": 0.8}, {"label": "long", "share": 0.2, "chars": [300, 900]}]}
KNOWN = [Budget("tight", 20.0), Budget("loose", 500.0), Budget("none", None)]


def paragraph(place: int) -> Paragraph:
    text = f"paragraph {place} ".ljust(100, "x")
    return Paragraph(text, (Question(str(place), f"Which is {place}?", (ReferenceAnswer("x", 99, (99,)),)),))


DATASET = SquadDataset("1.1", (Article("a", tuple(paragraph(place) for place in range(20))),))


def asks(count: int, draw: int = 0, **changes: Any) -> list[Ask]:
    given = scenario(**{"budgets": BUDGETS, "questions": LENGTHS, **changes})
    return make_asks(given, places_of(DATASET), KNOWN, count, draw)


def test_shares_are_as_stated() -> None:
    found = asks(20_000)
    budgets = Counter(each.budget.label for each in found)
    assert budgets["tight"] / 20_000 == pytest.approx(0.25, abs=0.02)
    assert budgets["none"] / 20_000 == pytest.approx(0.15, abs=0.02)
    assert Counter(each.length for each in found)["long"] / 20_000 == pytest.approx(0.2, abs=0.02)


def test_contexts_are_the_paragraph_or_as_long_as_drawn() -> None:
    for each in asks(500):
        assert each.record.context in each.context
        if each.length == "paragraph":
            assert each.context == each.record.context
        else:
            assert 100 <= len(each.context) <= 900
    assert max(len(each.context) for each in asks(500)) > 700


def test_each_dimension_has_its_own_seed() -> None:
    before, after = asks(200), asks(200, seeds={"budgets": 99})
    assert [each.budget for each in before] != [each.budget for each in after]
    assert [(each.record, each.context) for each in before] == [(each.record, each.context) for each in after]
    other = asks(200, seeds={"questions": 99})
    assert [each.record for each in before] != [each.record for each in other]
    assert [(each.budget, each.length) for each in before] == [(each.budget, each.length) for each in other]


def test_runs_of_one_scenario_differ_and_repeat() -> None:
    assert asks(100, draw=1) == asks(100, draw=1)
    assert asks(100, draw=1) != asks(100, draw=2)


def test_few_distinct_questions() -> None:
    found = asks(200, questions={"distinct": 3})
    assert len({each.record.id for each in found}) == 3


def test_budgets_in_units_of_a_latency() -> None:
    classes = scenario(budgets=BUDGETS).budgets
    assert [each.ms for each in budgets_of(classes, 10.0)] == [20.0, 500, None]
    with pytest.raises(ValueError, match="tight"):
        budgets_of(classes, None)


def test_a_file_without_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="no questions"):
        places_of(SquadDataset("1.1", ()))
