"""Interleaved rounds: in turn, each system answers the same few questions while the others wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.crew import Answered
from benchmarks.peers.pieces import Piece, Prepared
from benchmarks.peers.systems import FULL, PEAK, Crew
from benchmarks.report import say
from reading import SpanSettings, best_answers, score_questions

CHUNK = 20
"""Questions that a system answers before the next system has them."""

Times = Mapping[str, NDArray[np.int64]]
"""Nanoseconds by system, ``[runs, questions]``."""

Questions = Sequence[Sequence[Piece]]
Ask = Callable[[str, Questions], NDArray[np.int64]]
"""Times of a system's answers, int64 ``[questions]``."""

_SETTLE_SECONDS = 0.02  # thread pools of whoever was asked last spin for a while before they sleep


@dataclass(frozen=True, slots=True)
class Turn:
    """One system and one chunk of one run.

    Attributes:
        run: from 0 on.
        first: index of the chunk's first question.
        last: one past its last.
        system: by name.
    """

    run: int
    first: int
    last: int
    system: str


def schedule(names: Sequence[str], questions: int, runs: int, seed: int, chunk: int = CHUNK) -> list[Turn]:
    """Every system meets every chunk once in each run, in an order drawn anew for each chunk."""
    generator = np.random.default_rng(seed)
    return [
        Turn(run, first, min(first + chunk, questions), names[place])
        for run in range(runs)
        for first in range(0, questions, chunk)
        for place in generator.permutation(len(names))
    ]


def timed(  # noqa: PLR0913 - what a measurement is made of
    ask: Ask, names: Sequence[str], questions: Questions, runs: int, seed: int, *, uncounted: bool = True
) -> Times:
    """Times of all systems on the same questions, after a round that does not count if `uncounted`.

    Each turn begins with a question that does not count either: whoever was asked before had the caches.
    """
    times = {name: np.zeros((runs, len(questions)), dtype=np.int64) for name in names}
    for turn in schedule(names, len(questions), int(uncounted), seed):
        ask(turn.system, questions[turn.first : turn.last])
    for turn in schedule(names, len(questions), runs, seed):
        chunk = questions[turn.first : turn.last]
        times[turn.system][turn.run, turn.first : turn.last] = ask(turn.system, [chunk[0], *chunk])[1:]
    return times


def asking(crew: Crew, *, progress_seconds: float = 10.0) -> Ask:
    """Asks the workers of a crew."""
    said = time.monotonic()

    def ask(name: str, questions: Questions) -> NDArray[np.int64]:
        nonlocal said
        time.sleep(_SETTLE_SECONDS)
        if time.monotonic() - said > progress_seconds:
            said = time.monotonic()
            say(f"{name}: {len(questions)} questions")
        return answered(crew, name, questions).times_ns

    return ask


def answered(crew: Crew, name: str, questions: Questions, *, logits: bool = False) -> Answered:
    """Answers of one system."""
    if name == PEAK:
        return crew.workers[PEAK].run(FULL, [question[:1] for question in questions])
    system = crew.systems[name]
    return crew.workers[system.worker].run(system.config, questions, logits=logits)


def f1_of(crew: Crew, name: str, questions: Sequence[Prepared], settings: SpanSettings) -> NDArray[np.float64]:
    """F1 of every question, 0 to 1, ``[questions]``."""
    predictions: dict[str, str] = {}
    for first in range(0, len(questions), CHUNK):
        chunk = questions[first : first + CHUNK]
        found = answered(crew, name, [each.pieces for each in chunk], logits=True)
        for each, logits in zip(chunk, found.logits, strict=True):
            best = best_answers(each.record.context, each.tokens, each.windows, logits, settings)
            predictions[each.record.id] = best[0].text if best else ""
    return score_questions([each.record for each in questions], predictions).f1
