from __future__ import annotations

import math

import pytest

from benchmarks.agreement import BestSpan, agreement, best_span
from reading import Answer


def answer(start: int, logit: float | None) -> Answer:
    return Answer("x", 0.5, start, start + 1, logit)


def test_margin_is_the_difference_of_the_two_best_logit_sums() -> None:
    found = best_span([answer(3, 7.5), answer(9, 5.0), answer(1, 4.0)])
    assert found == BestSpan(3, 4, 2.5)


@pytest.mark.parametrize("answers", [[], [answer(3, 7.5)]])
def test_without_a_second_span_the_best_is_beyond_doubt(answers: list[Answer]) -> None:
    assert best_span(answers).margin == math.inf


def test_agreement_is_counted_over_all_and_over_the_clear_questions() -> None:
    reference = [BestSpan(0, 1, 0.1), BestSpan(2, 3, 0.4), BestSpan(4, 5, 1.0), BestSpan(6, 7, math.inf)]
    other = [BestSpan(0, 2, 9.0), BestSpan(2, 3, 0.0), BestSpan(4, 5, 0.0), BestSpan(6, 7, 0.0)]
    found = agreement(reference, other, 1.0)
    assert (found.questions, found.same) == (4, 0.75)
    assert (found.clear, found.same_when_clear) == (2, 1.0)
    assert found.margin_of_full_agreement == 0.1


def test_margin_of_full_agreement_is_the_clearest_question_in_dispute() -> None:
    reference = [BestSpan(0, 1, margin) for margin in (0.2, 1.5, 0.9, 3.0)]
    other = [BestSpan(5, 6, 0.0), BestSpan(5, 6, 0.0), BestSpan(0, 1, 0.0), BestSpan(0, 1, 0.0)]
    found = agreement(reference, other, 1.0)
    assert found.margin_of_full_agreement == 1.5
    assert found.same_when_clear == 0.5


def test_no_clear_question_gives_no_share() -> None:
    spans = [BestSpan(0, 1, 0.2)]
    found = agreement(spans, spans, 1.0)
    assert (found.clear, found.same_when_clear, found.margin_of_full_agreement) == (0, None, 0.0)


@pytest.mark.parametrize(("count", "margin"), [(0, 1.0), (1, 1.0), (2, -0.1)])
def test_what_cannot_be_compared_is_refused(count: int, margin: float) -> None:
    spans = [BestSpan(0, 1, 0.2)] * 2
    with pytest.raises(ValueError, match=r"must be compared|not negative"):
        agreement(spans[:count], spans, margin)
