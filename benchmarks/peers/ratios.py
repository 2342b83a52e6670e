"""From times to the figures of the table, ratios with intervals, and the limits on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.rounds import Times
from benchmarks.peers.systems import FULL, OPENVINO, engine_of
from benchmarks.report import Document

WITHIN1 = "within1"
PEAK_SHARE = "int8_peak_share"

_RESAMPLES = 10_000
_CONFIDENCE = 0.95
_SEED = 0


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer one system takes than another for the same questions.

    Attributes:
        value: sum of the one's times over sum of the other's; of each question the median over the runs.
        low: of its 95% bootstrap interval over the questions.
        high: likewise.
        runs: the same ratio of each run by itself.
    """

    value: float
    low: float
    high: float
    runs: tuple[float, ...]

    def document(self) -> Document:
        """Four decimals."""
        return {"interval": [round(self.low, 4), round(self.high, 4)], "runs": [round(each, 4) for each in self.runs]}


@dataclass(frozen=True, slots=True)
class Limits:
    """On the ratios; the names are those of the command line."""

    min_bert_fp32: float = 25.0
    min_bert_fp32_within1: float = 35.0
    min_bert_int8: float = 5.0
    min_bert_int8_within1: float = 7.5
    min_ort_int8: float = 1.4
    min_ort_int8_within1: float = 1.9
    max_dynamic_static: float = 1.1
    max_length_outlier: float = 2.0


def percentiles_ms(times_ns: NDArray[np.int64]) -> Document:
    """p50, p95, p99 in ms and questions per second, one at a time, of all times given."""
    values = np.asarray(times_ns, dtype=np.float64).ravel() / 1e6
    found = {f"p{place}_ms": round(float(np.percentile(values, place)), 3) for place in (50, 95, 99)}
    return {**found, "questions_per_second": round(1e3 / float(values.mean()), 2)}


def ratio(slow: NDArray[np.int64], fast: NDArray[np.int64], resamples: int = _RESAMPLES) -> Ratio:
    """Of times ``[runs, questions]`` each, of the same questions in the same order.

    The interval (percentile bootstrap, Efron 1979) draws questions, and both systems' times of a question together.

    Raises:
        ValueError: unequal shapes, or no times.
    """
    if slow.shape != fast.shape or slow.ndim != 2 or not slow.size:
        raise ValueError(f"times must be of the same runs and questions, not {slow.shape} and {fast.shape}")
    above, below = np.median(slow, axis=0), np.median(fast, axis=0)
    drawn = np.random.default_rng(_SEED).integers(len(above), size=(resamples, len(above)))
    spread = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    low, high = np.quantile(spread, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    runs = slow.sum(axis=1) / fast.sum(axis=1)
    return Ratio(float(above.sum() / below.sum()), float(low), float(high), tuple(float(each) for each in runs))


def pairs(within1: str, engine: str) -> dict[str, tuple[str, str]]:
    """Which ratio is of which systems' times: the slower, then the faster.  Leeway is its engine `engine`.

    Only ``dynamic/static`` is of OpenVINO in any case: its one graph for every shape beside its graph for one.
    ``static/full`` is that graph for one shape beside Leeway's one program for every shape; there is no limit on it.
    """
    ours = {FULL: f"{engine}/{FULL}", WITHIN1: f"{engine}/{within1}"}
    found = {
        f"{peer}/{point}": (peer, name)
        for peer in ("bert_fp32", "bert_int8", "ort_int8")
        for point, name in ours.items()
    }
    return {**found, "static/full": ("static", ours[FULL]), "dynamic/static": (f"{OPENVINO}/{FULL}", "static")}


def ratios(times: Times, within1: str) -> dict[str, Ratio | None]:
    """Every ratio of `pairs`; None where a system was left out."""
    return {
        name: ratio(times[slow], times[fast]) if slow in times and fast in times else None
        for name, (slow, fast) in pairs(within1, engine_of(times)).items()
    }


def peak_share(full: NDArray[np.int64], macs: float, peak: NDArray[np.int64], peak_macs: float) -> tuple[float, float]:
    """The share of the peak that a system reaches, and that peak.

    Args:
        full: nanoseconds ``[runs, questions]``.
        macs: 10^9 multiply-accumulates of all its questions.
        peak: nanoseconds ``[runs, products]``.
        peak_macs: 10^9 multiply-accumulates of one product.

    Returns:
        The median over the runs of (the run's multiply-accumulates per second) over (its fastest product's), 0 to 1;
        and the fastest product of all, 10^9 multiply-accumulates per nanosecond.
    """
    fastest = peak_macs / peak.min(axis=1)
    return float(np.median(macs / full.sum(axis=1) / fastest)), float(fastest.max())


def breaches(found: Mapping[str, float | None], limits: Limits) -> list[str]:
    """Every limit on a ratio that is broken, or of which nothing is known."""
    least = {
        "bert_fp32/full": limits.min_bert_fp32,
        "bert_fp32/within1": limits.min_bert_fp32_within1,
        "bert_int8/full": limits.min_bert_int8,
        "bert_int8/within1": limits.min_bert_int8_within1,
        "ort_int8/full": limits.min_ort_int8,
        "ort_int8/within1": limits.min_ort_int8_within1,
    }
    most = {"dynamic/static": limits.max_dynamic_static}
    broken = [f"{name} was not measured" for name in (*least, *most) if found[name] is None]
    known = {name: value for name, value in found.items() if value is not None}
    broken += [
        f"{name} is {known[name]:.3f}, at least {bound:g}"
        for name, bound in least.items()
        if name in known and known[name] < bound
    ]
    return broken + [
        f"{name} is {known[name]:.3f}, at most {bound:g}"
        for name, bound in most.items()
        if name in known and known[name] > bound
    ]
