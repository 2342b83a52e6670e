"""The skimmer: which tokens of a text are likely part of the answer, in float32, whatever the engine does.

What it computes is in model_store/FORMAT.md, "skimmer.safetensors".  Compiled code (``kernels/skim.h``) does it where
there is some, numpy elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from ctypes import CDLL, Structure, byref, c_int, c_size_t, c_void_p
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_store.skimmer import DILATIONS
from server.engine.interface import IntArray
from server.engine.native_tensors import in_lines

FloatArray = NDArray[np.float32]


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


def _softmax(scores: FloatArray) -> FloatArray:
    """Over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
