"""How time grows: with the length of a window, and with that of a text."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.pieces import Piece
from benchmarks.peers.rounds import Ask, Times, answered, timed
from benchmarks.peers.systems import Crew
from benchmarks.report import Document, say
from benchmarks.workload import joined
from reading import SpanSettings, SquadDataset, TextTokenizer, WindowSettings, best_answers, make_windows
from server.engine.openvino import BUCKET_STEP
from server.measuring import probe_windows

SHORTEST, LONGEST = 32, 512
COARSE_STEP = 32
TEXT_KB = (1, 2, 5, 10, 20, 50, 100)

_COUNTED_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Outlier:
    """The length that stands out most from its bucket.

    Attributes:
        length: tokens.
        times: its median time over the median of all times of its bucket.
        single: the greatest single time of any length over the median of its bucket, which holds what medians hide.
    """

    length: int
    times: float
    single: float

    def document(self) -> Document:
        """Three decimals."""
        return {"length": self.length, "times": round(self.times, 3), "greatest_single_times": round(self.single, 3)}


def outlier(lengths: Sequence[int], times_ns: NDArray[np.int64], bucket: int = BUCKET_STEP) -> Outlier:
    """Of times ``[rounds, lengths]``; a bucket holds the lengths that are rounded up to the same multiple of `bucket`.

    Raises:
        ValueError: no lengths.
    """
    buckets: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        buckets[-(-length // bucket)].append(place)
    found = []
    for places in buckets.values():
        middle = float(np.median(times_ns[:, places]))
        worst = max(places, key=lambda place: float(np.median(times_ns[:, place])))
        times = float(np.median(times_ns[:, worst])) / middle
        found.append(Outlier(lengths[worst], times, float(times_ns[:, places].max()) / middle))
    if not found:
        raise ValueError("no lengths")
    most = max(found, key=lambda each: each.times)
    return Outlier(most.length, most.times, max(each.single for each in found))


def by_length(  # noqa: PLR0913, PLR0917 - what a measurement is made of
    ask: Ask, ours: Sequence[str], others: Sequence[str], pieces: Mapping[int, Piece], warmed_up: int, seed: int
) -> Document:
    """Times against length: `ours` at every length of `pieces`, the others at multiples of `COARSE_STEP`.

    Args:
        ask: asks one of them.
        ours: warm themselves up for windows of up to `warmed_up` tokens; longer ones they meet once before.
        others: have a round that does not count.
        pieces: by length.
        warmed_up: tokens.
        seed: of the order.

    Returns:
        ``ms``: system -> length -> median ms, at multiples of `COARSE_STEP`; ``outliers``: of each of ours.
    """
    every = np.random.default_rng(seed).permutation(sorted(pieces)).tolist()
    coarse = [length for length in every if length % COARSE_STEP == 0]
    say(f"growth: {len(every)} lengths for {len(ours)} systems, {len(coarse)} for {len(others)}")
    longer = [[pieces[length]] for length in every if length > warmed_up]
    for name in ours:
        ask(name, longer)
    fine = [[pieces[length]] for length in every]
    fine_times = timed(ask, ours, fine, _COUNTED_ROUNDS, seed, uncounted=False)
    times = timed(ask, others, [[pieces[length]] for length in coarse], _COUNTED_ROUNDS, seed)
    return {
        "ms": {**_medians(every, fine_times), **_medians(coarse, times)},
        "outliers": {name: outlier(every, each).document() for name, each in fine_times.items()},
    }


def growth_pieces(tokenizer: TextTokenizer, text: str, step: int) -> dict[int, Piece]:
    """Windows of every `step`-th length from `SHORTEST` to `LONGEST` tokens, and of every multiple of `COARSE_STEP`."""
    lengths = sorted({*range(SHORTEST, LONGEST + 1, step), *range(SHORTEST, LONGEST + 1, COARSE_STEP)})
    return {length: Piece.of(window) for length, window in probe_windows(tokenizer, text, lengths).items()}


def long_text(dataset: SquadDataset, kilobytes: int) -> str:
    """The data's contexts one after the other, again and again if need be, cut to so many thousand code points."""
    texts = [paragraph.context for article in dataset.articles for paragraph in article.paragraphs]
    size = kilobytes * 1000
    repeats = -(-size // max(1, sum(len(text) for text in texts)))
    return joined(texts * repeats, 0, size + max(len(text) for text in texts))[:size]


def by_text(  # noqa: PLR0913 - what reading takes, by name
    crew: Crew,
    name: str,
    dataset: SquadDataset,
    tokenizer: TextTokenizer,
    *,
    windows: WindowSettings,
    spans: SpanSettings,
) -> list[Document]:
    """One question about texts of `TEXT_KB`: windows, the model's time, and that of everything around it."""
    question = tokenizer.encode(next(iter(dataset)).question)
    found = []
    for kilobytes in TEXT_KB:
        text = long_text(dataset, kilobytes)
        model_ms, around_ms, count = [], [], 0
        for _ in range(_COUNTED_ROUNDS):
            began = time.monotonic_ns()
            tokens = tokenizer.encode(text)
            cut = make_windows(question, tokens, tokenizer.special, windows)
            cut_ns = time.monotonic_ns() - began
            reply = answered(crew, name, [[Piece.of(window) for window in cut]], logits=True)
            began = time.monotonic_ns()
            best_answers(text, tokens, cut, reply.logits[0], spans, kernels=tokenizer.kernels)
            around_ms.append((cut_ns + time.monotonic_ns() - began) / 1e6)
            model_ms.append(float(reply.times_ns[0]) / 1e6)
            count = len(cut)
        model, around = float(np.median(model_ms)), float(np.median(around_ms))
        found.append(
            {
                "kilobytes": kilobytes,
                "windows": count,
                "model_ms": round(model, 3),
                "around_ms": round(around, 3),
                "model_ms_per_window": round(model / count, 3),
            }
        )
    return found


def _medians(lengths: Sequence[int], times: Times) -> Document:
    order = sorted((length, place) for place, length in enumerate(lengths) if length % COARSE_STEP == 0)
    return {
        name: {str(length): round(float(np.median(each[:, place])) / 1e6, 3) for length, place in order}
        for name, each in times.items()
    }
