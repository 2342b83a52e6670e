"""How far two engines agree on the best span, question by question.  No engine and no files here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reading import Answer


@dataclass(frozen=True, slots=True)
class BestSpan:
    """What an engine found for one question.

    Attributes:
        start: first code point of the best span.
        end: one past its last code point.
        margin: how clear the best span is: its logit sum (start plus end) less that of the second best
            span; infinite where there is no second one.
    """

    start: int
    end: int
    margin: float

    def is_span_of(self, other: BestSpan) -> bool:
        """Whether both found the same code points; margins do not matter."""
        return (self.start, self.end) == (other.start, other.end)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares from 0 to 1.

    Attributes:
        questions: compared.
        same: share of them with the same best span.
        clear: questions whose reference margin is at least the margin asked for.
        same_when_clear: share of those with the same best span; None where there are none.
        margin_of_full_agreement: greatest reference margin of a question that disagrees, 0 if all agree:
            every question with a margin above it agrees.
    """

    questions: int
    same: float
    clear: int
    same_when_clear: float | None
    margin_of_full_agreement: float


def best_span(answers: Sequence[Answer]) -> BestSpan:
    """The best span of an engine's answers, best first, asked for with ``top_k=2`` or more and no threshold.

    No answers (a context without tokens) is the empty span at 0, beyond doubt.
    """
    if not answers:
        return BestSpan(0, 0, math.inf)
    logits = [answer.logit for answer in answers[:2] if answer.logit is not None]
    margin = logits[0] - logits[1] if len(logits) == 2 else math.inf
    return BestSpan(answers[0].start, answers[0].end, margin)


def agreement(reference: Sequence[BestSpan], other: Sequence[BestSpan], margin: float) -> Agreement:
    """Compare `other` with `reference` on the same questions in the same order.

    Args:
        reference: its margins say which questions are clear.
        other: its margins are ignored.
        margin: in logits, at least 0.

    Raises:
        ValueError: no questions, unequal numbers of them, or a negative margin.
    """
    if not reference or len(reference) != len(other):
        raise ValueError(f"the same questions must be compared, at least one: {len(reference)} and {len(other)}")
    if margin < 0:
        raise ValueError(f"a margin is not negative, got {margin}")
    same = [mine.is_span_of(theirs) for mine, theirs in zip(reference, other, strict=True)]
    clear = [agrees for span, agrees in zip(reference, same, strict=True) if span.margin >= margin]
    disputed = [span.margin for span, agrees in zip(reference, same, strict=True) if not agrees]
    return Agreement(
        questions=len(same),
        same=sum(same) / len(same),
        clear=len(clear),
        same_when_clear=sum(clear) / len(clear) if clear else None,
        margin_of_full_agreement=max(disputed, default=0.0),
    )
