"""Logits to the best answer spans over all windows of a context.

The score is the softmax over pairs that extractive readers are trained towards (Devlin et al. 2019,
"BERT", section 4.2), taken over every admissible span of every window at once, so that scores of one
context are comparable and add up to 1.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reading.kernels import BestSpan, ReadingKernels
from reading.tokens import TokenizedText
from reading.windows import Window
from reading.words import word_bounds

FloatArray = NDArray[np.float64]
PlaceArray = NDArray[np.int64]

IMPOSSIBLE_ANSWER_THRESHOLD = 0.5
"""Nearest counterpart of Hugging Face's ``handle_impossible_answer=True``: below it "no answer" is likelier."""

_CELLS_AT_ONCE = 1 << 20  # spans scored at a time: 8 MiB, whatever the context and `max_answer` are


class SpanLogits(Protocol):
    """What is read of an engine's result for one window: one logit per token, special tokens included."""

    @property
    def start(self) -> NDArray[np.float32]:
        """float32 ``[n]``, the answer starts at this token."""

    @property
    def end(self) -> NDArray[np.float32]:
        """float32 ``[n]``, the answer ends with this token."""


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """Which spans are answers, and how many are wanted.

    Attributes:
        max_answer: tokens of an answer at most.
        top_k: answers wanted at most, the empty answer included.
        no_answer_threshold: probability of the best span below which the empty answer comes first; None
            never gives the empty answer.
        align_to_words: widen an answer to whole words (between white space).
    """

    max_answer: int = 30
    top_k: int = 1
    no_answer_threshold: float | None = None
    align_to_words: bool = False

    def __post_init__(self) -> None:
        if self.max_answer < 1:
            raise ValueError("max_answer must be at least 1")
        if self.top_k < 1:
            raise ValueError("top_k must be at least 1")
        if self.no_answer_threshold is not None and not 0.0 <= self.no_answer_threshold <= 1.0:
            raise ValueError("no_answer_threshold is a probability, from 0 to 1")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; ``text == context[start:end]``.

    Attributes:
        text: slice of the context, empty for the empty answer.
        score: probability, 0 to 1.
        start: first code point in the context.
        end: one past the last code point.
        logit: start logit plus end logit, for margins between answers; None for the empty answer.
    """

    text: str
    score: float
    start: int
    end: int
    logit: float | None


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The best token spans, best first, and the normalizer: the sum over all spans of exp(logit - peak)."""

    first_tokens: list[int]
    last_tokens: list[int]
    logits: list[float]
    peak: float
    total: float


class _Logits(NamedTuple):
    """Of one window, float64 ``[n]`` each."""

    start: FloatArray
    end: FloatArray


def best_answers(  # noqa: PLR0913 - what there is, then what is wanted
    context: str,
    tokens: TokenizedText,
    windows: Sequence[Window],
    logits: Sequence[SpanLogits],
    settings: SpanSettings = SpanSettings(),
    *,
    kernels: ReadingKernels | None = None,
) -> list[Answer]:
    """The best answers, best first, each with text offsets of its own.

    A span is admissible when it lies in the context part of one window and has at most
    ``settings.max_answer`` tokens.  The same context tokens seen in several windows are one span with the
    greatest of its logits.  Equal logits rank by earlier start, then by shorter span.

    Args:
        context: the text.
        tokens: its word pieces, ``[n]``.
        windows: windows of that context (`reading.windows.make_windows`).
        logits: one per window, each with as many values as the window has tokens.
        settings: what counts as an answer.
        kernels: find the one best span of a single window sooner; None to do without.

    Returns:
        At most ``settings.top_k`` answers.  A context without tokens has none (or, under a threshold, the
        empty answer with score 1).

    Raises:
        ValueError: logits that do not fit the windows or are not finite, or tokens that are not the context's.
    """
    _check(context, tokens, windows, logits)
    ranked = partial(_ranked, len(tokens), windows, logits, settings.max_answer, kernels=kernels)
    answers = _distinct_answers(context, tokens, settings, ranked)
    threshold = settings.no_answer_threshold
    if threshold is None:
        return answers
    best = answers[0].score if answers else 0.0
    if answers and best >= threshold:
        return answers
    return [Answer("", 1.0 - best, 0, 0, None), *answers][: settings.top_k]


def _check(context: str, tokens: TokenizedText, windows: Sequence[Window], logits: Sequence[SpanLogits]) -> None:
    if len(windows) != len(logits):
        raise ValueError(f"{len(windows)} windows but logits of {len(logits)}")
    if len(tokens) and int(tokens.ends[-1]) > len(context):
        raise ValueError("the tokens reach beyond the context: they belong to another text")
    for place, (window, values) in enumerate(zip(windows, logits, strict=True)):
        if window.context_first + window.context_count > len(tokens):
            raise ValueError(f"window {place} reaches beyond the {len(tokens)} tokens of the context")
        for name, row in (("start", values.start), ("end", values.end)):
            if row.shape != (len(window),):
                raise ValueError(f"window {place} has {len(window)} tokens but {name} logits of shape {row.shape}")


def _finite(place: int, values: SpanLogits) -> _Logits:
    """Logits of window `place`.

    Raises:
        ValueError: one is not finite.
    """
    rows = _Logits(values.start.astype(np.float64), values.end.astype(np.float64))
    for name, row in zip(("start", "end"), rows, strict=True):
        if not math.isfinite(np.add.reduce(row)):  # too wide for finite float32 to overflow
            raise ValueError(f"the {name} logits of window {place} hold a value that is not finite")
    return rows


def _distinct_answers(
    context: str, tokens: TokenizedText, settings: SpanSettings, ranked: Callable[[int], _Ranking]
) -> list[Answer]:
    """The best ``top_k`` spans that differ in their text offsets; of those with equal offsets the best."""
    wanted = settings.top_k
    while True:
        ranking = ranked(wanted)
        starts, ends = _text_offsets(context, tokens, ranking, align_to_words=settings.align_to_words)
        best: dict[tuple[int, int], float] = {}
        for start, end, logit in zip(starts, ends, ranking.logits, strict=True):
            if end > start:
                best.setdefault((start, end), logit)
        if len(best) >= settings.top_k or len(ranking.logits) < wanted:
            break
        wanted *= 8  # rare: several word pieces of one code point (Hangul), or align_to_words
    return [
        Answer(context[start:end], min(math.exp(logit - ranking.peak) / ranking.total, 1.0), start, end, logit)
        for (start, end), logit in islice(best.items(), settings.top_k)
    ]


def _ranked(  # noqa: PLR0913 - as `best_answers`
    count: int,
    windows: Sequence[Window],
    logits: Sequence[SpanLogits],
    max_answer: int,
    wanted: int,
    *,
    kernels: ReadingKernels | None,
) -> _Ranking:
    """The best `wanted` token spans of a context of `count` tokens.

    Raises:
        ValueError: a logit is not finite.
    """
    if kernels is not None and wanted == 1 and len(windows) == 1:
        best = _best(windows[0], logits[0], max_answer, kernels)
        if best is not None:
            return best
    rows = [_finite(place, values) for place, values in enumerate(logits)]
    width = min(max_answer, max((window.context_count for window in windows), default=1))
    width = max(width, 1)
    peak, total = -math.inf, 0.0  # apart: a logarithm of the total would drown beside a huge peak
    cells = np.empty(0, dtype=np.int64)  # first token x width + (length - 1): ascending order is tie order
    values = np.empty(0, dtype=np.float64)
    for first, table in _span_tables(count, windows, rows, width):
        places = _best_cells(table, wanted)
        if not len(places):
            continue
        found = table[places]
        highest = max(peak, float(found[0]))
        np.exp(np.subtract(table, highest, out=table), out=table)
        total = total * math.exp(peak - highest) + float(np.add.reduce(table))
        peak = highest
        places += first * width
        cells, values = (np.concatenate((cells, places)), np.concatenate((values, found))) if first else (places, found)
    if count * width > _CELLS_AT_ONCE:
        order = np.argsort(-values, kind="stable")[:wanted]
        cells, values = cells[order], values[order]
    first_tokens, last_tokens = [], []
    for cell in cells.tolist():
        token, more = divmod(cell, width)
        first_tokens.append(token)
        last_tokens.append(token + more)
    return _Ranking(first_tokens, last_tokens, values.tolist(), peak, total)


def _best(window: Window, values: SpanLogits, max_answer: int, kernels: ReadingKernels) -> _Ranking | None:
    """The best token span of a context that is all in one window; None where that takes more."""
    start, end = values.start, values.end
    if any(row.dtype != np.float32 or not row.flags.c_contiguous for row in (start, end)):
        return None
    best = BestSpan()
    part = len(window), window.segment_start, window.context_count
    if not kernels.best_span(start.ctypes.data, end.ctypes.data, *part, max_answer, byref(best)):
        return None
    first = window.context_first + best.first
    return _Ranking([first], [first + best.more], [best.logit], best.logit, best.total)


def _span_tables(
    count: int, windows: Sequence[Window], logits: Sequence[_Logits], width: int
) -> Iterator[tuple[int, FloatArray]]:
    """Logits of all spans, a block of first tokens at a time.

    Yields:
        The block's first token, and float64 ``[tokens x width]``, to do with as one likes: cell ``i * width + d`` is
        the span of ``d + 1`` tokens from token ``i`` of the block on, minus infinity where no window holds it.
    """
    block = max(1, _CELLS_AT_ONCE // width)
    for first in range(0, count, block):
        stop = min(first + block, count)
        if len(windows) == 1 and windows[0].context_count == count:
            yield first, _band(windows[0], logits[0], first, stop, width).ravel()
            continue
        table = np.full((stop - first, width), -np.inf)
        for window, values in zip(windows, logits, strict=True):
            low = max(first, window.context_first)
            high = min(stop, window.context_first + window.context_count)
            if low < high:
                part = table[low - first : high - first]
                np.maximum(part, _band(window, values, low, high, width), out=part)
        yield first, table.ravel()


def _band(window: Window, values: _Logits, low: int, high: int, width: int) -> FloatArray:
    """Logits of the spans of one window whose first context token is in ``[low, high)``.

    Returns:
        float64 ``[high - low, width]``: start logit of the row's token + end logit of the token ``d`` later.
    """
    begin = window.segment_start + low - window.context_first
    stop = window.segment_start + window.context_count
    ends = np.empty(high - low + width - 1)
    inside = values.end[begin:stop][: len(ends)]
    ends[: len(inside)] = inside
    ends[len(inside) :] = -np.inf
    starts = values.start[begin : begin + high - low]
    step = ends.itemsize  # a view of `width` ends from each on; numpy's sliding_window_view takes 20 us
    band: FloatArray = starts[:, np.newaxis] + np.ndarray((len(starts), width), np.float64, ends, 0, (step, step))
    return band


def _best_cells(table: FloatArray, wanted: int) -> PlaceArray:
    """Places of the `wanted` greatest finite values of a flat table, best first, ties in order of place."""
    if wanted == 1:
        place = int(table.argmax())
        return np.array([place] if table[place] > -np.inf else [], dtype=np.int64)
    least = -np.inf if wanted >= len(table) else np.partition(table, len(table) - wanted)[len(table) - wanted]
    places = np.flatnonzero((table >= least) & (table > -np.inf))
    return places[np.argsort(-table[places], kind="stable")][:wanted]


def _text_offsets(
    context: str, tokens: TokenizedText, ranking: _Ranking, *, align_to_words: bool
) -> tuple[list[int], list[int]]:
    """Code point offsets of token spans: first code point, one past the last."""
    starts = [int(tokens.starts[token]) for token in ranking.first_tokens]
    ends = [int(tokens.ends[token]) for token in ranking.last_tokens]
    if not context.isascii():
        past = {end: _past_marks(context, end) for end in set(ends)}
        ends = [past[end] for end in ends]
    if align_to_words:
        wide_starts, wide_ends = word_bounds(context, np.array(starts, np.int64), np.array(ends, np.int64))
        return wide_starts.tolist(), wide_ends.tolist()
    return starts, ends


def _past_marks(context: str, end: int) -> int:
    """`end` behind combining marks, which BERT's normalizer drops: an answer ends in "é", not in a bare "e"."""
    while end < len(context) and unicodedata.category(context[end]) == "Mn":
        end += 1
    return end
