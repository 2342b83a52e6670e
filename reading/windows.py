"""Question and context to windows of tokens at their real lengths.

A window is ``[CLS] question [SEP] part of the context [SEP]``.  Nothing is padded here: padding to a
length bucket is an engine's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reading.tokens import IntArray, SpecialTokens, TokenizedText


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How a text is cut.

    Attributes:
        max_length: tokens per window at most, special tokens included.
        overlap: context tokens shared by neighbouring windows (Hugging Face calls it ``doc_stride``).
        max_question: question tokens kept; a longer question loses its end.
    """

    max_length: int = 384
    overlap: int = 128
    max_question: int = 64

    def __post_init__(self) -> None:
        if self.max_question < 1:
            raise ValueError("max_question must be at least 1")
        if self.overlap < 0:
            raise ValueError("overlap must not be negative")
        smallest_part = self.max_length - self.max_question - 3
        if smallest_part <= self.overlap:
            raise ValueError(
                f"max_length {self.max_length} leaves {smallest_part} context tokens beside a question of "
                f"{self.max_question}; it must leave more than the overlap of {self.overlap}"
            )


@dataclass(frozen=True, slots=True)
class Window:
    """One window.

    Attributes:
        token_ids: int32 ``[n]``, special tokens included.
        segment_start: index in the window of the first context token; tokens before it are segment 0
            (``[CLS] question [SEP]``), tokens from it on are segment 1 (context and the last ``[SEP]``).
        context_first: index, among the tokens of the whole context, of the window's first context token.
        context_count: number of context tokens in the window.
    """

    token_ids: IntArray
    segment_start: int
    context_first: int
    context_count: int

    def __len__(self) -> int:
        return int(self.token_ids.shape[0])


def make_windows(
    question: TokenizedText,
    context: TokenizedText,
    special: SpecialTokens,
    settings: WindowSettings = WindowSettings(),
) -> list[Window]:
    """Cut `context` into overlapping windows, each behind the whole (truncated) question.

    Every context token is in at least one window.  A context without tokens (white space only) gives one
    window without context tokens.
    """
    question_ids = question.ids[: settings.max_question]
    asked = len(question_ids) + 2
    room = settings.max_length - asked - 1
    step = room - settings.overlap
    windows = []
    first = 0
    while True:
        part = context.ids[first : first + room]
        token_ids = np.empty(asked + len(part) + 1, dtype=np.int32)
        token_ids[0] = special.cls_id
        token_ids[asked - 1] = token_ids[-1] = special.sep_id
        token_ids[1 : asked - 1] = question_ids
        token_ids[asked:-1] = part
        windows.append(Window(token_ids, asked, first, len(part)))
        if first + room >= len(context):
            return windows
        first += step
