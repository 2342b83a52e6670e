"""Leaving out a part of the text before the first layer: a skimmer says which, and any engine runs on the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration, rounded_count
from model_store.skimmer import (
    SHORTEST_TEXT,
    RankedTokens,
    chosen_tokens,
    margin_of,
    marginal_count,
    rank_tokens,
)
from server.engine.checks import check_call
from server.engine.interface import Engine, EngineInfo, EngineResult, IntArray, WindowLogits, WindowTokens
from server.engine.skimmer import TokenScorer

FloatArray = NDArray[np.float32]

LEFT_OUT_LOGIT = -10000.0
"""Of a token that no layer saw; as a probability it is 0."""


@dataclass(frozen=True, slots=True)
class SkimmedWindow:
    """What is left of a window.

    Attributes:
        token_ids: as of `server.engine.interface.WindowTokens`.
        segment_start: likewise.
        places: int64 ``[k]``, where these tokens stood in the whole window.
    """

    token_ids: IntArray
    segment_start: int
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RankedWindow:
    """A window that holds a whole text, with the skimmer's opinion of it: how much is left of it depends on that.

    Attributes:
        token_ids: as of `server.engine.interface.WindowTokens`.
        segment_start: likewise.
        ranked: the tokens of the text.
        margins: of the skimmer (`model_store.skimmer.margin_of`).
    """

    token_ids: IntArray
    segment_start: int
    ranked: RankedTokens
    margins: FloatArray

    def left_tokens(self, configuration: LengthConfiguration) -> int:
        """Tokens that the first layer sees, special ones and question included."""
        length, frame = len(self.token_ids), self.segment_start + 1
        share = text_tokens(length, self.segment_start, configuration)
        if share >= length - frame:
            return length
        return frame + self.marginal_text(share, margin_of(share / (length - frame), self.margins))

    def marginal_text(self, share: int, margin: float) -> int:
        """Tokens left of the text, by `marginal_count`, the whole window's rounded as in `LengthConfiguration`."""
        frame = self.segment_start + 1
        wanted = frame + marginal_count(self.ranked.worth, share, margin)
        return rounded_count(wanted, len(self.token_ids)) - frame

    def alike(self, configuration: LengthConfiguration) -> int:
        """Tokens of a window of which `configuration` leaves as many in the mean as it does of this one.

        So what is known of the time of windows by their length tells the time of this one.
        """
        length, exempt = len(self.token_ids), configuration.exempt_tokens
        left = self.left_tokens(configuration)
        if left <= exempt or text_tokens(length, self.segment_start, configuration) >= length - self.segment_start - 1:
            return left
        return max(left, round(exempt + (left - exempt) / configuration.input_ratio))


class SkimmingEngine:
    """An engine that leaves out what a length configuration's `input_ratio` says before another runs.

    Tokens that are left out get the logits `LEFT_OUT_LOGIT`.  The time of a call has the skimming in it, but for
    windows that `rank` has seen.

    Args:
        engine: runs what is left; owned from now on.
        skimmer: says what that is.
        architecture: of the model.
        margins: of the skimmer (`model_store.skimmer.margin_of`); None: a window's length alone says how much is left
            of it.
    """

    def __init__(
        self, engine: Engine, skimmer: TokenScorer, architecture: Architecture, margins: FloatArray | None = None
    ) -> None:
        self._engine, self._skimmer, self._architecture, self._margins = engine, skimmer, architecture, margins

    @property
    def info(self) -> EngineInfo:
        """Of the engine inside."""
        return self._engine.info

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """As the engine inside does it: what a configuration leaves of a window is a shorter window."""
        self._engine.warm_up([_afterwards(each) for each in configurations])

    def close(self) -> None:
        """Close the engine inside."""
        self._engine.close()

    def rank(self, window: WindowTokens) -> RankedWindow | None:
        """`window`, which must hold the whole text of its question, with the skimmer's opinion of it; from any thread.

        None where the skimmer has no margins or the window no text: its length says how much is left of it.
        """
        if self._margins is None or window.segment_start >= len(window.token_ids) - 1:
            return None
        return rank_window(window, self._skimmer, self._margins)

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows`; raises as the interface says."""
        if configuration.input_ratio == 1.0:
            return self._engine.run(windows, configuration)
        began = time.monotonic_ns()
        rest = _afterwards(configuration)
        check_call(self._architecture, windows, rest)
        skimmed = [skim(window, configuration, self._skimmer) for window in windows]
        result = self._engine.run(skimmed, rest)
        logits = tuple(
            _whole(len(window.token_ids), left.places, found)
            for window, left, found in zip(windows, skimmed, result.logits, strict=True)
        )
        return EngineResult(logits, time.monotonic_ns() - began)


def ranked_windows(
    engine: Engine, windows: Sequence[WindowTokens], configurations: Sequence[LengthConfiguration]
) -> Sequence[WindowTokens]:
    """The windows of one question, made ready for `engine` and any of `configurations`.

    A text in one window is ranked where one of them skims, so that how much is left of it can depend on the text.  In a
    longer one a skimmer cannot compare one window with another, and each keeps what its length says.
    """
    skims = any(each.input_ratio < 1.0 for each in configurations)
    if len(windows) != 1 or not skims or not isinstance(engine, SkimmingEngine):
        return windows
    ranked = engine.rank(windows[0])
    return windows if ranked is None else (ranked,)


def entering_tokens(window: WindowTokens, configuration: LengthConfiguration) -> int:
    """Tokens of `window` that the first layer sees."""
    if isinstance(window, RankedWindow):
        return window.left_tokens(configuration)
    length, start = len(window.token_ids), window.segment_start
    return min(length, start + 1 + text_tokens(length, start, configuration))


def lengths_alike(
    windows: Sequence[WindowTokens], configurations: Sequence[LengthConfiguration]
) -> NDArray[np.int64] | None:
    """`RankedWindow.alike` of all, int64 ``[configurations, windows]``; None where no window is ranked."""
    if not any(isinstance(window, RankedWindow) for window in windows):
        return None
    known: dict[tuple[float, int], list[int]] = {}
    for each in configurations:
        if (each.input_ratio, each.exempt_tokens) not in known:
            known[each.input_ratio, each.exempt_tokens] = [
                window.alike(each) if isinstance(window, RankedWindow) else len(window.token_ids) for window in windows
            ]
    return np.asarray([known[each.input_ratio, each.exempt_tokens] for each in configurations], dtype=np.int64)


def skim(window: WindowTokens, configuration: LengthConfiguration, skimmer: TokenScorer) -> SkimmedWindow:
    """What `configuration` leaves of `window` for the first layer: ``[CLS] question [SEP] part of the text [SEP]``.

    A window whose question is empty is asked by its first token.
    """
    ids, start = window.token_ids, window.segment_start
    entering = entering_tokens(window, configuration)
    if entering == len(ids):
        return SkimmedWindow(ids, start, np.arange(len(ids)))
    ranked = window.ranked if isinstance(window, RankedWindow) else rank_tokens(text_scores(window, skimmer))
    places = _framed(ranked.first(entering - start - 1), start, len(ids))
    return SkimmedWindow(np.ascontiguousarray(ids[places]), start, places)


def rank_window(window: WindowTokens, skimmer: TokenScorer, margins: FloatArray) -> RankedWindow:
    """`window`, which must hold a whole text of at least one token, with the skimmer's opinion of it."""
    return RankedWindow(window.token_ids, window.segment_start, rank_tokens(text_scores(window, skimmer)), margins)


def text_scores(window: WindowTokens, skimmer: TokenScorer) -> FloatArray:
    """Scores of the tokens of the window's text, at least one, float32 ``[n]``."""
    ids, start = window.token_ids, window.segment_start
    return skimmer.scores(ids[1 : start - 1] if start > 2 else ids[:1], ids[start:-1])


def _afterwards(configuration: LengthConfiguration) -> LengthConfiguration:
    """What is left of `configuration` to do once a text is skimmed."""
    return replace(configuration, input_ratio=1.0)


def text_tokens(length: int, segment_start: int, configuration: LengthConfiguration) -> int:
    """Tokens of the text that `configuration` leaves of a window of `length` tokens; more than there are: all."""
    return max(configuration.input_tokens(length) - segment_start - 1, SHORTEST_TEXT)


def kept_places(scores: FloatArray, segment_start: int, count: int) -> NDArray[np.int64]:
    """Places in the window of what is left of it: all but the text's tokens, of which `count` stay.

    Args:
        scores: float32 ``[n]``, of the tokens of the text.
        segment_start: index in the window of the first of them.
        count: at most n.
    """
    return _framed(chosen_tokens(scores, count), segment_start, segment_start + len(scores) + 1)


def _framed(text: NDArray[np.int64], segment_start: int, length: int) -> NDArray[np.int64]:
    """Places in a window of `length` tokens: all before the text, these of the text, the last [SEP]."""
    return np.concatenate([np.arange(segment_start), segment_start + text, [length - 1]])


def _whole(count: int, places: NDArray[np.int64], found: WindowLogits) -> WindowLogits:
    start, end = np.full((2, count), LEFT_OUT_LOGIT, dtype=np.float32)
    start[places], end[places] = found.start, found.end
    return WindowLogits(start, end)
