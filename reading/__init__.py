"""Text and question to windows of tokens; logits to answer spans; exact match and F1.

Imports nothing of the other folders, no torch and no HTTP.
"""

from __future__ import annotations

from reading.offsets import to_utf16, utf16_offsets
from reading.scoring import (
    Interval,
    QuestionScores,
    Score,
    exact_match,
    f1,
    normalize_answer,
    paired_bootstrap,
    score_predictions,
    score_questions,
)
from reading.spans import IMPOSSIBLE_ANSWER_THRESHOLD, Answer, SpanLogits, SpanSettings, best_answers
from reading.squad import (
    Article,
    Paragraph,
    Question,
    ReferenceAnswer,
    SquadDataset,
    SquadFormatError,
    SquadRecord,
    load_json,
    load_predictions,
    load_squad,
    sample_questions,
)
from reading.tokens import SpecialTokens, TextTokenizer, TokenizedText
from reading.windows import Window, WindowSettings, make_windows

__all__ = [
    "IMPOSSIBLE_ANSWER_THRESHOLD",
    "Answer",
    "Article",
    "Interval",
    "Paragraph",
    "Question",
    "QuestionScores",
    "ReferenceAnswer",
    "Score",
    "SpanLogits",
    "SpanSettings",
    "SpecialTokens",
    "SquadDataset",
    "SquadFormatError",
    "SquadRecord",
    "TextTokenizer",
    "TokenizedText",
    "Window",
    "WindowSettings",
    "best_answers",
    "exact_match",
    "f1",
    "load_json",
    "load_predictions",
    "load_squad",
    "make_windows",
    "normalize_answer",
    "paired_bootstrap",
    "sample_questions",
    "score_predictions",
    "score_questions",
    "to_utf16",
    "utf16_offsets",
]
