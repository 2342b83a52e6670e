from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import (
    ReferenceAnswer,
    Score,
    SquadRecord,
    exact_match,
    f1,
    load_squad,
    normalize_answer,
    paired_bootstrap,
    score_predictions,
    score_questions,
)

EXCERPT = Path(__file__).parent.parent / "data" / "squad-excerpt.json"


def record(key: str, *references: str) -> SquadRecord:
    answers = tuple(ReferenceAnswer(text, 0, (0,)) for text in references)
    return SquadRecord(key, "T", "context", "question", answers)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat,\tsat.", "cat sat"),
        ("a-n", ""),  # punctuation goes first: "an" is an article
        ("U.S.A.", "usa"),
        ("theatre", "theatre"),
        ("the", ""),
        ("Café \u201cX\u201d", "café \u201cx\u201d"),  # only ASCII punctuation is removed
    ],
)
def test_normalizing_by_hand(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the cat", "Cat!", 1.0),
        ("black cat", "the cat", 2 / 3),  # precision 1/2, recall 1
        ("cat cat dog", "cat dog dog", 2 / 3),  # shares one cat and one dog of three
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 0.0),  # both empty after normalizing: the official script gives 0
    ],
)
def test_f1_by_hand(prediction: str, reference: str, expected: float) -> None:
    assert f1(prediction, reference) == pytest.approx(expected)


@given(st.text(), st.text())
def test_f1_is_symmetric_and_one_where_the_match_is_exact(first: str, second: str) -> None:
    assert f1(first, second) == pytest.approx(f1(second, first))
    if exact_match(first, second) and normalize_answer(first):
        assert f1(first, second) == 1.0


def test_each_question_takes_its_best_reference_and_a_missing_one_counts_zero() -> None:
    questions = [record("q1", "dog", "black cat"), record("q2", "Paris"), record("q3", "1990s"), record("q4", "x")]
    predictions = {"q1": "the cat", "q2": "paris", "q3": "", "other": "ignored"}
    score = score_predictions(questions, predictions)
    assert (score.exact_match, score.questions, score.missing) == (25.0, 4, 1)
    assert score.f1 == pytest.approx(100 * (2 / 3 + 1) / 4)
    assert score_questions(questions, predictions).f1.tolist() == pytest.approx([2 / 3, 1, 0, 0])


def test_the_reference_answers_themselves_score_one_hundred() -> None:
    dataset = load_squad(EXCERPT)
    predictions = {question.id: question.answers[0].text for question in dataset}
    assert score_predictions(dataset, predictions) == Score(100.0, 100.0, 56, 0)


def test_scoring_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no questions"):
        score_predictions([], {})


def test_the_bootstrap_interval_holds_the_mean_and_repeats_with_its_seed() -> None:
    values = np.random.default_rng(0)
    first, second = values.random(200), values.random(200)
    interval = paired_bootstrap(first, second, np.random.default_rng(1), resamples=500)
    assert interval == paired_bootstrap(first, second, np.random.default_rng(1), resamples=500)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx((first - second).mean())


def test_pairing_makes_a_constant_difference_certain() -> None:
    second = np.arange(10) / 16
    interval = paired_bootstrap(second + 0.25, second, np.random.default_rng(0), resamples=50)
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ([1.0], [1.0, 2.0], {}, "one length"),
        ([], [], {}, "one length"),
        ([1.0], [1.0], {"resamples": 0}, "resamples"),
        ([1.0], [1.0], {"confidence": 1.0}, "confidence"),
    ],
)
def test_a_bootstrap_that_means_nothing_is_refused(
    first: list[float], second: list[float], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(first, second, np.random.default_rng(0), **options)  # type: ignore[arg-type]
