"""The latency profile: what this host needs for a window, measured once, kept apart from the artifact.

Portable facts (length configurations, F1, MACs) live in the artifact; host facts (times) live here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model_store.errors import ModelStoreError
from model_store.strict_json import Fields, dump, parse

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PROFILE_FORMAT_VERSION = 1
MAXIMUM_LENGTH = 1 << 16
CALIBRATED = "calibrated"
PROBED = "probed"


class InvalidProfileError(ModelStoreError):
    """Bytes that are no latency profile of a known format version; the message says where and what is wrong."""


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile holds for; any difference makes another profile.

    Attributes:
        artifact: digest of the model's artifact.
        engine: name of the engine.
        precision: as `server.engine.interface.EngineInfo` says it.
        cpu: the processor as the engine's runtime names it.
        threads: of one inference.
    """

    artifact: str
    engine: str
    precision: str
    cpu: str
    threads: int


@dataclass(frozen=True)
class LatencyProfile:
    """Service times of this host.

    Attributes:
        key: what it was measured for.
        configurations: ids, cheapest first, as in the Pareto table.
        lengths: window lengths measured, tokens, rising.
        window_ns: ``[configurations][lengths]``, median time of one window, nanoseconds.
        residuals: sorted quantiles of observed / median over all cells, at evenly spaced probabilities
            ``(i + 0.5) / len(residuals)``; the spread of the host, for the first tail factor and for the simulation.
        answer_ns: median of what is spent once per request between dispatch and the answer beside inference: hand-overs
            between threads, reading off the spans, writing the response.
        answer_ns_per_window: the same, per window.
        tokenize_ns: once per request.
        tokenize_ns_per_char: per code point of question and context.
        measured: ``calibrated`` (a full calibration) or ``probed`` (a few cells at start-up, the rest interpolated).
        length_step: windows take the time of the next multiple of this many tokens, as the engine pads them so.

    Raises:
        ValueError: shapes that do not fit, lengths that do not rise, window times or residuals that are not
            positive, other times that are negative.
    """

    key: ProfileKey
    configurations: tuple[str, ...]
    lengths: tuple[int, ...]
    window_ns: tuple[tuple[float, ...], ...]
    residuals: tuple[float, ...]
    answer_ns: float
    answer_ns_per_window: float
    tokenize_ns: float
    tokenize_ns_per_char: float
    measured: str
    length_step: int = 1

    def __post_init__(self) -> None:
        if not self.configurations or len(set(self.configurations)) < len(self.configurations):
            raise ValueError(f"configurations must be there, each once, got {self.configurations!r:.200}")
        if not self.lengths or self.lengths[0] < 1 or any(a >= b for a, b in pairwise(self.lengths)):
            raise ValueError(f"lengths must be positive and rise, got {self.lengths!r:.200}")
        if not 1 <= self.length_step <= MAXIMUM_LENGTH or self.lengths[-1] > MAXIMUM_LENGTH:
            raise ValueError(f"lengths and length_step must be in 1..{MAXIMUM_LENGTH}")
        if len(self.window_ns) != len(self.configurations):
            raise ValueError(f"{len(self.window_ns)} rows of window_ns for {len(self.configurations)} configurations")
        for name, row in zip(self.configurations, self.window_ns, strict=True):
            if len(row) != len(self.lengths):
                raise ValueError(f"window_ns of {name} has {len(row)} times for {len(self.lengths)} lengths")
            _require(f"window_ns of {name}", row, positive=True)
        _require("residuals", self.residuals, positive=True)
        if not self.residuals or any(a > b for a, b in pairwise(self.residuals)):
            raise ValueError("residuals must be there, and sorted")
        for field in ("answer_ns", "answer_ns_per_window", "tokenize_ns", "tokenize_ns_per_char"):
            _require(field, (getattr(self, field),), positive=False)
        if self.measured not in {CALIBRATED, PROBED}:
            raise ValueError(f"measured must be {CALIBRATED} or {PROBED}, got {self.measured!r:.40}")

    @cached_property
    def table(self) -> FloatArray:
        """``window_ns`` as float64 ``[configurations, 1 + longest length]``: linear between the lengths measured.

        Below the shortest and beyond the longest length measured the nearest segment goes on, but never below
        half of the nearest time measured.
        """
        return self._times(np.arange(self.lengths[-1] + 1))

    @cached_property
    def _alone(self) -> FloatArray:
        """Inference time of a request of one window by its length, float64 ``[1 + longest length, configurations]``."""
        alone = np.ascontiguousarray(self.table.T)
        alone.setflags(write=False)
        return alone

    def inference_ns(self, window_lengths: Sequence[int]) -> FloatArray:
        """Typical inference time of a request, float64 ``[configurations]``, nanoseconds; not to be written to.

        Args:
            window_lengths: real tokens of each window, at least one.

        Raises:
            ValueError: no window, or one without tokens.
        """
        count, longest = len(window_lengths), self.lengths[-1]
        if count == 1 and 0 < window_lengths[0] <= longest:
            alone: FloatArray = self._alone[window_lengths[0]]
            return alone
        if not count or min(window_lengths) < 1:
            raise ValueError(f"a request has windows of at least one token, got {window_lengths!r:.80}")
        lengths, counts = np.unique(np.asarray(window_lengths, dtype=np.int64), return_counts=True)
        times = self.table[:, lengths] if lengths[-1] <= longest else self._times(lengths)
        total: FloatArray = times @ counts
        return total

    def inference_ns_of_each(self, window_lengths: IntArray) -> FloatArray:
        """`inference_ns` where windows are as good as longer or shorter ones to each configuration.

        Args:
            window_lengths: int64 ``[configurations, windows]``, tokens, at least one window.
        """
        if window_lengths.max() <= self.lengths[-1]:
            alone: FloatArray = self.table[np.arange(len(self.configurations))[:, None], window_lengths].sum(axis=1)
            return alone
        rows = zip(self._padded(window_lengths), self.window_ns, strict=True)
        return np.asarray([interpolate(padded, self.lengths, times).sum() for padded, times in rows])

    def answer_time_ns(self, windows: int) -> float:
        """Typical time from the end of inference to the answer of a request of that many windows."""
        return self.answer_ns + self.answer_ns_per_window * windows

    def service_ns(self, window_lengths: Sequence[int]) -> FloatArray:
        """Typical service time (dispatch to answer) of a request, float64 ``[configurations]``, nanoseconds.

        Raises:
            ValueError: see `inference_ns`.
        """
        return self.inference_ns(window_lengths) + self.answer_time_ns(len(window_lengths))

    def tokenize_time_ns(self, characters: int) -> float:
        """Typical time to tokenize that many code points."""
        return self.tokenize_ns + self.tokenize_ns_per_char * characters

    def residual(self, probability: float) -> float:
        """Quantile of observed / median at `probability`, linear between those kept.

        Raises:
            ValueError: no probability.
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"a probability is in 0..1, got {probability}")
        count = len(self.residuals)
        return float(np.interp(probability, (np.arange(count) + 0.5) / count, self.residuals))

    def to_json(self) -> bytes:
        """The profile as UTF-8 JSON; `parse_profile` gives back an equal one."""
        return dump({"format_version": PROFILE_FORMAT_VERSION, **asdict(self)}, "profile", InvalidProfileError)

    def _times(self, lengths: IntArray) -> FloatArray:
        """Time of one window of each of `lengths`, float64 ``[configurations, len(lengths)]``."""
        padded = self._padded(lengths)
        return np.stack([interpolate(padded, self.lengths, row) for row in self.window_ns])

    def _padded(self, lengths: IntArray) -> IntArray:
        """Tokens of windows as the engine pads them."""
        padded = -(-lengths // self.length_step) * self.length_step
        inside = lengths <= self.lengths[-1]  # the longest measured may be no multiple: it was padded too
        padded[inside] = np.minimum(padded[inside], self.lengths[-1])
        return padded


def interpolate(places: ArrayLike, known: Sequence[float], values: Sequence[float]) -> FloatArray:
    """Piecewise linear function through `known` and `values`, float64, of the shape of `places`.

    Outside of `known` the nearest segment goes on, but never below half of the nearest value; a single value
    holds everywhere.

    Args:
        places: where it is wanted.
        known: at least one, strictly rising.
        values: positive, one for each of `known`.
    """
    wanted = np.asarray(places, dtype=np.float64)
    xs, ys = np.asarray(known, dtype=np.float64), np.asarray(values, dtype=np.float64)
    found = np.interp(wanted, xs, ys)
    if len(xs) > 1:
        first, last = np.diff(ys)[[0, -1]] / np.diff(xs)[[0, -1]]
        found += np.minimum(wanted - xs[0], 0.0) * first + np.maximum(wanted - xs[-1], 0.0) * last
    return np.maximum(found, np.where(wanted < xs[0], ys[0], np.where(wanted > xs[-1], ys[-1], 0.0)) / 2)


def parse_profile(data: bytes, where: str) -> LatencyProfile:
    """The profile in `data`, the bytes of the file `where`.

    Raises:
        InvalidProfileError: whatever is wrong with them.
    """
    top = parse(data, where, InvalidProfileError)
    if top.integer("format_version") != PROFILE_FORMAT_VERSION:
        raise top.fail("format_version", str(PROFILE_FORMAT_VERSION))
    top.only("format_version", *LatencyProfile.__dataclass_fields__)
    rows = Fields({str(i): row for i, row in enumerate(top.array("window_ns"))}, where, InvalidProfileError)
    try:
        return LatencyProfile(
            key=_key(top.object("key")),
            configurations=tuple(_texts(top, "configurations")),
            lengths=tuple(_integers(top, "lengths")),
            window_ns=tuple(rows.numbers(row) for row in rows.values),
            residuals=top.numbers("residuals"),
            answer_ns=top.number("answer_ns"),
            answer_ns_per_window=top.number("answer_ns_per_window"),
            tokenize_ns=top.number("tokenize_ns"),
            tokenize_ns_per_char=top.number("tokenize_ns_per_char"),
            measured=top.text("measured"),
            length_step=top.integer("length_step"),
        )
    except ValueError as error:
        raise InvalidProfileError(f"{where}: {error}") from error


def _key(fields: Fields) -> ProfileKey:
    fields.only(*ProfileKey.__dataclass_fields__)
    return ProfileKey(
        artifact=fields.text("artifact"),
        engine=fields.text("engine"),
        precision=fields.text("precision"),
        cpu=fields.text("cpu"),
        threads=fields.integer("threads"),
    )


def _texts(top: Fields, key: str) -> list[str]:
    items = top.array(key)
    inner = Fields({str(i): item for i, item in enumerate(items)}, f"{top.where}: {key}", top.invalid)
    return [inner.text(str(i)) for i in range(len(items))]


def _integers(top: Fields, key: str) -> list[int]:
    items = top.array(key)
    inner = Fields({str(i): item for i, item in enumerate(items)}, f"{top.where}: {key}", top.invalid)
    return [inner.integer(str(i)) for i in range(len(items))]


def _require(name: str, values: Sequence[float], *, positive: bool) -> None:
    for value in values:
        if not math.isfinite(value) or value < 0.0 or (positive and value == 0.0):
            raise ValueError(f"{name} must be {'positive' if positive else 'at least 0'}, got {value}")
