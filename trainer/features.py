"""SQuAD questions to training features, kept in one compact file.

A feature is one window with every place where an answer to its question stands.  The file is plain numpy
(``.npz`` without pickle) with ragged arrays stored flat beside their offsets.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from reading.tokens import TextTokenizer, TokenizedText
from reading.windows import Window, WindowSettings, make_windows

IntArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with the code point spans ``(start, end)`` of its answers, end exclusive."""

    id: str
    question: str
    context: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Features:
    """Windows and labels of a data set.

    Attributes:
        token_ids: int32 ``[all tokens]``, the windows one behind the other.
        offsets: int64 ``[windows + 1]``, where each window begins in `token_ids`.
        segment_starts: int32 ``[windows]``.
        label_starts: int32 ``[all labels]``, places in the window where an answer begins.
        label_ends: int32 ``[all labels]``, places of its last token.
        label_offsets: int64 ``[windows + 1]``.
        questions: int32 ``[windows]``, index of the question in the data set.

    A window without an answer has one label: place 0, the [CLS] token, for both ends.
    """

    token_ids: IntArray
    offsets: NDArray[np.int64]
    segment_starts: IntArray
    label_starts: IntArray
    label_ends: IntArray
    label_offsets: NDArray[np.int64]
    questions: IntArray

    def __len__(self) -> int:
        return int(self.segment_starts.shape[0])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[windows]``, real lengths."""
        return np.diff(self.offsets)

    def save(self, path: Path) -> None:
        """Write the file, by way of a temporary one."""
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, **vars(self))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Features:
        """Read a file that `save` wrote.

        Raises:
            OSError: no such file.
            ValueError: a damaged file, or not one of features.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in cls.__dataclass_fields__}
        except (BadZipFile, zlib.error, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or no file of features: {error}") from error
        return cls(**arrays)


DEFAULT_WINDOWS = WindowSettings()


def make_features(
    questions: Iterable[LabelledQuestion], tokenizer: TextTokenizer, settings: WindowSettings = DEFAULT_WINDOWS
) -> Features:
    """Windows of all questions with their labels."""
    windows: list[Window] = []
    labels: list[list[tuple[int, int]]] = []
    owners: list[int] = []
    last: tuple[str, TokenizedText] | None = None
    for owner, item in enumerate(questions):
        if last is None or last[0] != item.context:
            last = (item.context, tokenizer.encode(item.context))
        context = last[1]
        spans = [token_span(context, span) for span in item.spans]
        for window in make_windows(tokenizer.encode(item.question), context, tokenizer.special, settings):
            windows.append(window)
            labels.append(_window_labels(window, spans))
            owners.append(owner)
    return _flatten(windows, labels, owners)


def token_span(context: TokenizedText, span: tuple[int, int]) -> tuple[int, int]:
    """First and last context token that a code point span ``(start, end)`` touches."""
    first = int(np.searchsorted(context.starts, span[0], side="right")) - 1
    last = int(np.searchsorted(context.starts, span[1] - 1, side="right")) - 1
    if first >= 0 and context.ends[first] <= span[0]:
        first += 1
    return max(first, 0), max(last, first, 0)


def _window_labels(window: Window, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    end = window.context_first + window.context_count
    shift = window.segment_start - window.context_first
    inside = {(a + shift, b + shift) for a, b in spans if window.context_first <= a <= b < end}
    return sorted(inside) or [(0, 0)]


def _flatten(windows: list[Window], labels: list[list[tuple[int, int]]], owners: list[int]) -> Features:
    if not windows:
        raise ValueError("no questions, so no features")
    flat = np.asarray([label for one in labels for label in one], dtype=np.int32)
    return Features(
        token_ids=np.concatenate([window.token_ids for window in windows]),
        offsets=np.cumsum([0, *(len(window) for window in windows)], dtype=np.int64),
        segment_starts=np.asarray([window.segment_start for window in windows], dtype=np.int32),
        label_starts=np.ascontiguousarray(flat[:, 0]),
        label_ends=np.ascontiguousarray(flat[:, 1]),
        label_offsets=np.cumsum([0, *(len(one) for one in labels)], dtype=np.int64),
        questions=np.asarray(owners, dtype=np.int32),
    )
