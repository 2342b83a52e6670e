"""What is simulated: a Pareto table and a latency profile, real ones or a stated example."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from model_store import LengthConfiguration, ModelStore, ParetoPoint, ParetoTable, full_configuration
from server.routing.profile import LatencyProfile, ProfileKey, parse_profile

FloatArray = NDArray[np.float64]

MEAN_LENGTH = 170
"""Tokens of a question with its context in SQuAD 1.1, mean (the default model's table says 170.78)."""

SPREAD_OF_LENGTHS = 0.38
"""Standard deviation of the logarithm of those lengths."""

FEWEST_POINTS = 3
"""Of a table that there is anything to choose from."""

EXAMPLE_POINTS = 12
EXAMPLE_CHEAPEST_SHARE = 0.25
EXAMPLE_F1 = (60.0, 80.0)

_WINDOW, _OVERLAP, _QUESTION = 384, 128, 16
_SHORTEST, _LONGEST = 32, 600
_MIX = 4096
_BASE_NS, _PER_TOKEN_NS = 0.8e6, 0.055e6
_SIGMA, _STRAGGLERS, _STRAGGLER = 0.06, 0.01, 1.5
_LAYERS = 6


@dataclass(frozen=True)
class World:
    """One host with one model.

    Attributes:
        table: the length configurations, cheapest first.
        profile: their times.
        table_source: where the table comes from, in words.
        profile_source: the same of the profile.

    Raises:
        ValueError: table and profile name different configurations.
    """

    table: ParetoTable
    profile: LatencyProfile
    table_source: str
    profile_source: str

    def __post_init__(self) -> None:
        ids = tuple(point.id for point in self.table.points)
        if ids != self.profile.configurations:
            raise ValueError(f"the profile is of {self.profile.configurations}, the Pareto table of {ids}")

    @cached_property
    def f1(self) -> FloatArray:
        """Held-out F1 in percent, ``[C]``."""
        return np.array([point.held_out_f1 for point in self.table.points])

    @cached_property
    def mean_residual(self) -> float:
        """Mean of true over typical time."""
        return float(np.mean(self.profile.residuals))

    @cached_property
    def mean_inference_ns(self) -> FloatArray:
        """Mean true inference time over the mix of lengths, ``[C]``: what one request occupies the engine for."""
        times = [self.inference_ns(windows) for windows in length_mix()]
        mean: FloatArray = np.mean(times, axis=0) * self.mean_residual
        return mean

    @cached_property
    def capacity(self) -> float:
        """Requests per second that the full configuration can just carry: 1 / its mean true inference time."""
        return 1e9 / float(self.mean_inference_ns[-1])

    @cached_property
    def unit_budget_ns(self) -> float:
        """Median time of a request of mean length at full, dispatch to answer: what budgets are multiples of."""
        return float(self.profile.service_ns((MEAN_LENGTH,))[-1])

    def inference_ns(self, windows: tuple[int, ...]) -> FloatArray:
        """Typical time that windows of these lengths occupy the engine, ``[C]``."""
        found: FloatArray = self.profile.service_ns(windows) - self.answer_ns(len(windows))
        return found

    def answer_ns(self, windows: int) -> float:
        """Typical time from the end of inference to the answer; the engine is free meanwhile."""
        return self.profile.answer_ns + self.profile.answer_ns_per_window * windows


def lengths_at(probabilities: FloatArray) -> list[tuple[int, ...]]:
    """Windows of requests at these quantiles of length.

    Log-normal with mean `MEAN_LENGTH` and `SPREAD_OF_LENGTHS`, cut to 32..600 tokens.  About one in a hundred is
    longer than one window of 384 and gets a second one, with 128 tokens of overlap and the question again.
    """
    centre = np.log(MEAN_LENGTH) - SPREAD_OF_LENGTHS**2 / 2
    normal = NormalDist(float(centre), SPREAD_OF_LENGTHS)
    drawn = [np.exp(normal.inv_cdf(float(each))) for each in np.clip(probabilities, 1e-9, 1 - 1e-9)]
    return [_windows(round(min(max(each, _SHORTEST), _LONGEST))) for each in drawn]


def _windows(tokens: int) -> tuple[int, ...]:
    if tokens <= _WINDOW:
        return (tokens,)
    return (_WINDOW, tokens - _WINDOW + _OVERLAP + _QUESTION)


def length_mix() -> list[tuple[int, ...]]:
    """The whole distribution of `lengths_at`, at evenly spaced probabilities."""
    return lengths_at((np.arange(_MIX) + 0.5) / _MIX)


def residuals_at(profile: LatencyProfile, probabilities: FloatArray) -> FloatArray:
    """`LatencyProfile.residual` of many probabilities at once, of their shape."""
    count = len(profile.residuals)
    return np.interp(probabilities, (np.arange(count) + 0.5) / count, profile.residuals)


def example_table() -> ParetoTable:
    """Twelve points, evenly spaced from 25% to 100% of the MACs; F1 concave from 60 to 80.

    ``F1 = 80 - 20 * ((1 - share) / 0.75) ** 2``.  An assumption: no model was measured.
    """
    low, high = EXAMPLE_F1
    points = []
    for i, share in enumerate(np.linspace(EXAMPLE_CHEAPEST_SHARE, 1.0, EXAMPLE_POINTS)):
        last = i == EXAMPLE_POINTS - 1
        ratios = (1.0, *(float(share),) * (_LAYERS - 1))
        f1 = high - (high - low) * ((1.0 - share) / (1.0 - EXAMPLE_CHEAPEST_SHARE)) ** 2
        shape = full_configuration(_LAYERS) if last else LengthConfiguration(f"c{EXAMPLE_POINTS - 1 - i:02d}", ratios)
        points.append(ParetoPoint(shape, 2e9 * float(share), float(f1), float(f1) - 13.0))
    return ParetoTable(tuple(points), float(MEAN_LENGTH))


def example_profile(table: ParetoTable) -> LatencyProfile:
    """A stated profile for `table`, as of one slow core.

    Full: 0.8 ms + 0.055 ms per token and window; others ``0.27 + 0.73 * share of MACs`` of that.  Residuals: log-normal
    with sigma 0.06, and 1% of stragglers that take 1.5 times as long, scaled to a median of 1.
    """
    lengths = tuple(range(16, 385, 16))
    full = _BASE_NS + _PER_TOKEN_NS * np.array(lengths)
    shares = [0.27 + 0.73 * point.macs / table.full.macs for point in table.points]
    return LatencyProfile(
        key=ProfileKey("example", "example", "example", "example", 1),
        configurations=tuple(point.id for point in table.points),
        lengths=lengths,
        window_ns=tuple(tuple(float(each) for each in share * full) for share in shares),
        residuals=_example_residuals(),
        answer_ns=0.3e6,
        answer_ns_per_window=0.05e6,
        tokenize_ns=0.1e6,
        tokenize_ns_per_char=100.0,
        measured="calibrated",
    )


def _example_residuals() -> tuple[float, ...]:
    random = np.random.default_rng(0)
    drawn = np.exp(_SIGMA * random.standard_normal(200_000))
    drawn[: int(_STRAGGLERS * len(drawn))] *= _STRAGGLER
    quantiles = np.quantile(drawn, (np.arange(1000) + 0.5) / 1000)
    return tuple(float(each) for each in quantiles / np.median(drawn))


def load_world(store: Path, model: str, profile: Path | None) -> World:
    """The model's own table if it has at least `FEWEST_POINTS` points, else the example; the profile given, if any.

    Raises:
        ModelStoreError: no such model.
        OSError: no such profile.
        InvalidProfileError, ValueError: it is none, or one of other configurations.
    """
    table = ModelStore(store).load(model, verify_digests=False).table
    source = f"{model}, {len(table.points)} points"
    if len(table.points) < FEWEST_POINTS:
        source = f"EXAMPLE of {EXAMPLE_POINTS} points, because {model} has only {len(table.points)}"
        table = example_table()
    if profile is None:
        return World(table, example_profile(table), source, "EXAMPLE, see benchmarks/README.md")
    return World(table, parse_profile(profile.read_bytes(), str(profile)), source, profile.name)
