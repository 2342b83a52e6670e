"""Windows as they travel from the benchmark to its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reading import (
    SquadRecord,
    TextTokenizer,
    TokenizedText,
    Window,
    WindowSettings,
    load_squad,
    make_windows,
    sample_questions,
)
from server.engine.interface import IntArray, WindowTokens

if TYPE_CHECKING:
    from model_store.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Piece:
    """One window, padded or not (it fits `server.engine.interface.WindowTokens`).

    Attributes:
        token_ids: int32 ``[n]``, special tokens included.
        segment_start: index of the first token of segment 1.
        real_length: tokens that are no padding, at most n.
    """

    token_ids: IntArray
    segment_start: int
    real_length: int

    @classmethod
    def of(cls, window: WindowTokens) -> Piece:
        """A window at its real length."""
        return cls(window.token_ids, window.segment_start, len(window.token_ids))

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Piece:
        """What `to_json` made."""
        ids, segment_start, real_length = value
        return cls(np.asarray(ids, dtype=np.int32), int(segment_start), int(real_length))

    def to_json(self) -> list[Any]:
        """For a line of JSON."""
        return [self.token_ids.tolist(), self.segment_start, self.real_length]

    def padded(self, length: int, pad_id: int) -> Piece:
        """The same window with padding behind it, at least `length` tokens long."""
        missing = max(0, length - len(self.token_ids))
        ids = np.concatenate((self.token_ids, np.full(missing, pad_id, dtype=np.int32)))
        return Piece(ids, self.segment_start, self.real_length)

    def rows(self, length: int | None = None, pad_id: int = 0) -> tuple[NDArray[np.int64], ...]:
        """Ids, attention mask and segments, int64 ``[1, n]`` each, as BERT's implementations take them."""
        ids = self.padded(length or 0, pad_id).token_ids.astype(np.int64)
        places = np.arange(len(ids))
        mask = (places < self.real_length).astype(np.int64)
        segments = ((places >= self.segment_start) & (places < self.real_length)).astype(np.int64)
        return ids[None], mask[None], segments[None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that is cut into windows.

    Attributes:
        record: question, context and reference answers.
        tokens: of the context.
        windows: of the context, behind the question.
    """

    record: SquadRecord
    tokens: TokenizedText
    windows: list[Window]

    @property
    def pieces(self) -> list[Piece]:
        """The windows at their real lengths."""
        return [Piece.of(window) for window in self.windows]


def prepare(records: Sequence[SquadRecord], tokenizer: TextTokenizer, settings: WindowSettings) -> list[Prepared]:
    """Cut every question's context into windows."""
    prepared = []
    for record in records:
        tokens = tokenizer.encode(record.context)
        windows = make_windows(tokenizer.encode(record.question), tokens, tokenizer.special, settings)
        prepared.append(Prepared(record, tokens, windows))
    return prepared


def drawn(artifact: Artifact, data: Path, count: int, seed: int) -> list[Prepared]:
    """`count` questions of a file in SQuAD format, cut into windows as `artifact` reads them.

    Raises:
        ValueError: a file without questions.
    """
    reading = artifact.manifest.reading
    settings = WindowSettings(reading.max_length, reading.overlap, reading.max_question)
    records = sample_questions(load_squad(data), count, seed)
    if not records:
        raise ValueError(f"{data} holds no questions")
    return prepare(records, TextTokenizer.from_file(artifact.tokenizer_path), settings)
