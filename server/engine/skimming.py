"""Leaving out a part of the text before the first layer: a small reader says which, and any engine runs on the rest.

What the skimmer computes is in model_store/FORMAT.md, "skimmer.safetensors"; in float32, whatever the engine does.
Compiled code (``kernels/skim.h``) does it where there is some, numpy elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from ctypes import CDLL, Structure, byref, c_int, c_size_t, c_void_p
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration, rounded_count
from model_store.skimmer import (
    DILATIONS,
    SHORTEST_TEXT,
    RankedTokens,
    chosen_tokens,
    margin_of,
    marginal_count,
    rank_tokens,
)
from server.engine.checks import check_call
from server.engine.interface import Engine, EngineInfo, EngineResult, IntArray, WindowLogits, WindowTokens
from server.engine.native_tensors import in_lines

FloatArray = NDArray[np.float32]

LEFT_OUT_LOGIT = -10000.0
"""Of a token that no layer saw; as a probability it is 0."""


class TokenScorer(Protocol):
    """Scores the tokens of a text by a question."""

    def scores(self, question: IntArray, text: IntArray) -> FloatArray:
        """How likely each token of `text` is part of the answer to `question`; higher is likelier.

        Args:
            question: int32 ``[m]``, word piece ids, at least one.
            text: int32 ``[n]``, word piece ids, at least one.

        Returns:
            float32 ``[n]``.
        """
        ...


def make_skimmer(tensors: Mapping[str, NDArray[Any]]) -> TokenScorer:
    """The compiled skimmer where this machine can run it, else the one of numpy.

    Args:
        tensors: of `model_store.skimmer.skimmer_layout`.
    """
    from server.engine.native import usable_library  # which imports this package

    library = usable_library()
    return Skimmer(tensors) if library is None else CompiledSkimmer(tensors, library)


class Skimmer:
    """A `TokenScorer` in numpy: what others are compared with.

    Args:
        tensors: of `model_store.skimmer.skimmer_layout`.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._get = dict(tensors)
        self._question = _Block(tensors, "question", 1)
        self._blocks = tuple(_Block(tensors, f"blocks.{place}", step) for place, step in enumerate(DILATIONS))

    def scores(self, question: IntArray, text: IntArray) -> FloatArray:
        """Float32 ``[n]``: see `TokenScorer`."""
        get = self._get
        words, asking = self._words(text), self._words(question)
        read = self._question.applied(asking)
        matches = np.matmul(asking, get["match"]) @ words.T  # [heads, m, n]
        asked = _softmax(matches[0].T) @ read
        exact = np.where(text[:, None] == question, get["rarity"][question], np.float32(0)).max(axis=1)
        gist = _softmax(get["gate.weight"] @ read.T) @ read
        gate = gist @ get["gate.question"].T + get["gate.question.bias"]
        mixed = words @ (get["mix.text"] + get["mix.question"] * gate).T + get["mix.bias"]
        mixed += asked @ get["mix.asked"].T
        mixed += (words * asked) @ get["mix.product"].T
        mixed += np.vstack([matches.max(axis=1), exact]).T @ get["mix.matches"].T
        state = np.maximum(mixed, 0)
        for block in self._blocks:
            state = block.applied(state)
        scored: FloatArray = (state @ get["score.weight"].T + get["score.bias"])[:, 0]
        return scored

    def _words(self, ids: IntArray) -> FloatArray:
        words: FloatArray = self._get["word"][ids] * self._get["word.scale"][ids, None]
        return words


class _Block:
    """A convolution of each channel by itself, then one over the channels, added to what came in."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], name: str, dilation: int) -> None:
        self._taps = np.ascontiguousarray(tensors[f"{name}.taps"].T)  # [taps, width]
        self._taps_bias = tensors[f"{name}.taps.bias"]
        self._weight, self._bias = np.ascontiguousarray(tensors[f"{name}.weight"].T), tensors[f"{name}.bias"]
        self._dilation = dilation

    def applied(self, state: FloatArray) -> FloatArray:
        """``[n, width]`` of as many; what lies outside the text counts as 0."""
        count, beside = len(state), len(self._taps) // 2 * self._dilation
        padded = np.zeros((count + 2 * beside, state.shape[1]), dtype=np.float32)
        padded[beside : beside + count] = state
        seen = np.broadcast_to(self._taps_bias, state.shape).copy()
        for place, tap in enumerate(self._taps):
            seen += padded[place * self._dilation : place * self._dilation + count] * tap
        added: FloatArray = np.maximum(seen @ self._weight + self._bias, 0)
        added += state
        return added


class _BlockStructure(Structure):
    """``SkimBlock`` of kernels/skim.h."""

    _fields_ = tuple((name, c_void_p) for name in ("taps", "taps_bias", "weight", "bias"))


class _TensorsStructure(Structure):
    """``SkimTensors`` of kernels/skim.h."""

    _fields_ = (
        ("words", c_void_p),
        ("scales", c_void_p),
        ("rarity", c_void_p),
        ("match", c_void_p),
        ("gate_weight", c_void_p),
        ("gate", c_void_p),
        ("gate_bias", c_void_p),
        ("mix", c_void_p),
        ("mix_bias", c_void_p),
        ("gated", c_void_p),
        ("score_weight", c_void_p),
        ("score_bias", c_void_p),
        ("question", _BlockStructure),
        ("blocks", _BlockStructure * len(DILATIONS)),
    )


class CompiledSkimmer:
    """A `TokenScorer` in compiled code; calls from several threads wait for each other.

    Args:
        tensors: of `model_store.skimmer.skimmer_layout`; copied.
        library: made from ``kernels/``, of the version that fits; who loads it sees to that.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], library: CDLL) -> None:
        self._room, self._scores = library.leeway_skim_room, library.leeway_skim_scores
        self._room.argtypes, self._room.restype = (c_int, c_int), c_size_t
        self._scores.argtypes = (c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p, c_void_p)
        self._copies: list[NDArray[Any]] = []  # what the structure points into
        mix = np.vstack([tensors[f"mix.{part}"].T for part in ("text", "asked", "product", "matches")])
        of_words = (tensors[name] for name in ("word", "word.scale", "rarity", "match"))
        of_gate = (tensors[f"gate.{part}"] for part in ("weight", "question", "question.bias"))
        of_mix = (mix, tensors["mix.bias"], tensors["mix.question"].T)
        of_score = (tensors["score.weight"], tensors["score.bias"])
        self._tensors = _TensorsStructure(
            *map(self._address, (*of_words, *of_gate, *of_mix, *of_score)),
            self._block(tensors, "question"),
            (_BlockStructure * len(DILATIONS))(
                *(self._block(tensors, f"blocks.{place}") for place in range(len(DILATIONS)))
            ),
        )
        self._one_at_a_time = threading.Lock()  # the memory is shared by all calls
        self._memory = np.empty(0, dtype=np.float32)

    def scores(self, question: IntArray, text: IntArray) -> FloatArray:
        """Float32 ``[n]``: see `TokenScorer`.

        Raises:
            ValueError: question or text has no token, or more than the compiled code counts.
            MemoryError: there is no memory for so many.
        """
        asking, read = (np.ascontiguousarray(ids, dtype=np.int32) for ids in (question, text))
        found = np.empty(len(read), dtype=np.float32)
        with self._one_at_a_time:
            room = self._room(len(asking), len(read))
            if room > len(self._memory):
                self._memory = in_lines(np.zeros(room, dtype=np.float32))
            done = self._scores(
                byref(self._tensors),
                asking.ctypes.data,
                len(asking),
                read.ctypes.data,
                len(read),
                self._memory.ctypes.data,
                found.ctypes.data,
            )
        if not done:
            raise ValueError(f"no skimming of {len(read)} tokens by a question of {len(asking)}")
        return found

    def _block(self, tensors: Mapping[str, NDArray[Any]], name: str) -> _BlockStructure:
        taps, weight = tensors[f"{name}.taps"].T, tensors[f"{name}.weight"].T
        return _BlockStructure(
            *map(self._address, (taps, tensors[f"{name}.taps.bias"], weight, tensors[f"{name}.bias"]))
        )

    def _address(self, values: NDArray[Any]) -> int:
        self._copies.append(in_lines(values))
        return int(self._copies[-1].ctypes.data)


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
        ranked = rank_tokens(text_scores(window, self._skimmer))
        return RankedWindow(window.token_ids, window.segment_start, ranked, self._margins)

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


def ranked_windows(engine: Engine, windows: Sequence[WindowTokens]) -> Sequence[WindowTokens]:
    """The windows of one question, made ready for `engine`.

    A text in one window is ranked where the engine skims, so that how much is left of it can depend on the text.  In a
    longer one a skimmer cannot compare one window with another, and each keeps what its length says.
    """
    if len(windows) != 1 or not isinstance(engine, SkimmingEngine):
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
    wanted = entering - start - 1
    if entering == len(ids):
        return SkimmedWindow(ids, start, np.arange(len(ids)))
    if isinstance(window, RankedWindow):
        places = _framed(np.sort(window.ranked.order[:wanted]), start, len(ids))
    else:
        places = kept_places(text_scores(window, skimmer), start, wanted)
    return SkimmedWindow(np.ascontiguousarray(ids[places]), start, places)


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


def _softmax(scores: FloatArray) -> FloatArray:
    """Over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
