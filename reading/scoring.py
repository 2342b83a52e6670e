"""The official SQuAD 1.1 scores, exact match and F1, and intervals for their differences.

Same arithmetic as ``evaluate-v1.1.py`` of Rajpurkar et al. 2016, section 6.1 of the paper.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reading.squad import SquadRecord

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Score:
    """Score of a set of predictions.

    Attributes:
        exact_match: percentage of questions, 0 to 100.
        f1: mean token F1 in percent, 0 to 100.
        questions: number of questions scored.
        missing: questions without a prediction, which count 0.
    """

    exact_match: float
    f1: float
    questions: int
    missing: int


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """Scores question by question, in the order of the questions.

    Attributes:
        exact_match: float64 ``[n]``, 0 or 1.
        f1: float64 ``[n]``, 0 to 1.
        missing: number of questions without a prediction.
    """

    exact_match: NDArray[np.float64]
    f1: NDArray[np.float64]
    missing: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and its bootstrap confidence interval, in the unit of the values compared."""

    mean: float
    low: float
    high: float


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, without the articles a, an, the, white space joined."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, reference: str) -> float:
    """1.0 if both are the same after `normalize_answer`, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(reference))


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the words of both, 0 to 1.

    As in the official script, two answers that are both empty after normalizing have F1 0.
    """
    predicted, expected = normalize_answer(prediction).split(), normalize_answer(reference).split()
    shared = (Counter(predicted) & Counter(expected)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def score_questions(questions: Iterable[SquadRecord], predictions: Mapping[str, str]) -> QuestionScores:
    """Score each question by its best reference answer; a missing prediction counts 0.

    Predictions of other questions are ignored, as in the official script.
    """
    matches, overlaps, missing = [], [], 0
    for question in questions:
        prediction = predictions.get(question.id)
        if prediction is None:
            missing += 1
            matches.append(0.0)
            overlaps.append(0.0)
            continue
        references = {answer.text for answer in question.answers}
        matches.append(max(exact_match(prediction, reference) for reference in references))
        overlaps.append(max(f1(prediction, reference) for reference in references))
    return QuestionScores(np.array(matches, dtype=np.float64), np.array(overlaps, dtype=np.float64), missing)


def score_predictions(questions: Iterable[SquadRecord], predictions: Mapping[str, str]) -> Score:
    """Exact match and F1 in percent over `questions` (a `SquadDataset` or any records).

    Raises:
        ValueError: there are no questions.
    """
    scores = score_questions(questions, predictions)
    count = len(scores.f1)
    if not count:
        raise ValueError("there are no questions to score")
    return Score(
        exact_match=100.0 * float(scores.exact_match.mean()),
        f1=100.0 * float(scores.f1.mean()),
        questions=count,
        missing=scores.missing,
    )


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    generator: np.random.Generator,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of ``mean(first - second)`` over the same questions (Efron 1979).

    Args:
        first: ``[n]``, one value per question.
        second: ``[n]``, the other system's values of the same questions in the same order.
        generator: source of the resamples; a seed of its own makes the interval repeatable.
        resamples: number of bootstrap samples.
        confidence: share of the distribution inside the interval.

    Raises:
        ValueError: no questions, unequal shapes, no resamples, or a confidence outside (0, 1).
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"paired values must be two rows of one length, not {left.shape} and {right.shape}")
    if resamples < 1:
        raise ValueError("resamples must be at least 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError("confidence must lie between 0 and 1")
    differences = left - right
    count = len(differences)
    means = [differences[generator.integers(count, size=count)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(differences.mean()), float(low), float(high))
