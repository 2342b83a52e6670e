"""From questions to answers: tokenize, cut, wait, infer, read off the spans.  Knows no HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_store.length_config import LengthConfiguration
from reading.spans import Answer, SpanSettings, best_answers
from reading.tokens import TextTokenizer, TokenizedText
from reading.windows import Window, WindowSettings, make_windows
from server.engine.interface import WindowLogits, WindowTokens
from server.errors import OverloadedError, TooManyWindowsError
from server.line import InferenceLine, InferenceResult
from server.routing.latency_model import LatencyModel
from server.routing.ticket import Request

P = ParamSpec("P")
T = TypeVar("T")

MOST_INLINE_CHARS = 4_000
"""Of all texts of a request: up to this the event loop itself tokenizes and reads off, a millisecond at most.

To hand work to a thread and its result back takes longer on a core that inference keeps busy.
"""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text."""

    question: str
    context: str


@dataclass(frozen=True, slots=True)
class ReadingSettings:
    """How texts are cut and which spans count as answers."""

    windows: WindowSettings
    spans: SpanSettings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller wants of routing.

    Attributes:
        budget_ns: latency budget; None without one.
        best_effort: the fastest answer in place of a refusal.
        pinned: index of the length configuration to use, cheapest first; None leaves the choice to the policy.
    """

    budget_ns: int | None = None
    best_effort: bool = False
    pinned: int | None = None


NOTHING_WANTED = Wanted()


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Integer nanoseconds of one request, by stage; waits between stages are in `total_ns` alone.

    Attributes:
        queue_ns: in the line for the engine.
        tokenize_ns: texts to windows.
        inference_ns: inside the engine.
        post_ns: logits to answers.
        total_ns: from arrival to the answers.
    """

    queue_ns: int
    tokenize_ns: int
    inference_ns: int
    post_ns: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to the questions of one request.

    Attributes:
        answers: for each question its answers, best first.
        configuration: the length configuration that all of them were run under.
        windows: windows run, over all questions.
        times: by stage.
        predicted_latency_ns: arrival to answer, upper quantile, as predicted at dispatch.
        slack_ns: what was left of the budget at dispatch, the expected inference taken off; None without a budget.
        profile_ns: inference of the whole request under that configuration as the profile has it.
        factor: trim x scale factor at dispatch.
    """

    answers: tuple[tuple[Answer, ...], ...]
    configuration: LengthConfiguration
    windows: int
    times: StageTimes
    predicted_latency_ns: int
    slack_ns: int | None
    profile_ns: float
    factor: float


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Tokens of each context, windows of each question, all of them as the engine gets them, and the time that took."""

    tokens: list[TokenizedText]
    windows: list[list[Window]]
    ranked: list[WindowTokens]
    lengths_alike: NDArray[np.int64] | None
    elapsed_ns: int


class Answerer:
    """Answers requests, of one question or many, against one loaded model; used on one event loop."""

    def __init__(  # noqa: PLR0913 - parts and limits, each by name
        self,
        tokenizer: TextTokenizer,
        line: InferenceLine,
        latency_model: LatencyModel,
        text_pool: ThreadPoolExecutor,
        *,
        max_waiting: int,
        max_windows: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Make an answerer.

        Args:
            tokenizer: of the model.
            line: to the engine.
            latency_model: learns how long answers take after inference.
            text_pool: threads for tokenizing and post-processing of long texts; owned by the caller.
            max_waiting: requests accepted beside the one in work.
            max_windows: of one request, over all its questions.
            clock_ns: monotonic.
        """
        self._tokenizer = tokenizer
        self._line = line
        self._latency_model = latency_model
        self._text_pool = text_pool
        self._max_waiting = max_waiting
        self._max_windows = max_windows
        self._clock_ns = clock_ns
        self._accepted = 0

    @property
    def accepted(self) -> int:
        """Requests accepted and not yet answered, in whatever stage."""
        return self._accepted

    @property
    def depth(self) -> int:
        """Requests that wait for the engine."""
        return self._line.depth

    async def answer(
        self,
        questions: Sequence[Question],
        settings: ReadingSettings,
        *,
        arrival_ns: int | None = None,
        wanted: Wanted = NOTHING_WANTED,
    ) -> Answered:
        """Answer all `questions` as one request, with one budget and under one length configuration.

        Raises:
            OverloadedError: too many requests wait, or too much for the budget.
            InfeasibleBudgetError: the budget is too small for this request, whatever the load.
            ExpiredError: the budget ran out before the request's turn came.
            TooManyWindowsError: the contexts would be cut into too many windows.
            asyncio.CancelledError: the caller gave up; work not yet dispatched is not run.
        """
        arrival_ns = self._clock_ns() if arrival_ns is None else arrival_ns
        if self._accepted > self._max_waiting:
            raise OverloadedError(f"{self._accepted} requests are waiting or in work, which is as many as may")
        self._accepted += 1
        try:
            return await self._answer(questions, settings, arrival_ns, wanted)
        finally:
            self._accepted -= 1

    async def _answer(
        self, questions: Sequence[Question], settings: ReadingSettings, arrival_ns: int, wanted: Wanted
    ) -> Answered:
        chars = sum(len(question.question) + len(question.context) for question in questions)
        prepared = await self._text_work(chars, self._prepare, questions, settings.windows)
        request = Request(
            tuple(len(window.token_ids) for window in prepared.ranked),
            arrival_ns,
            wanted.budget_ns,
            wanted.best_effort,
            wanted.pinned,
            prepared.elapsed_ns,
            prepared.lengths_alike,
        )
        result = await self._line.run(prepared.ranked, request)
        answers, post_ns = await self._text_work(
            chars, self._read_off, questions, prepared, result.logits, settings.spans
        )
        now_ns = self._clock_ns()
        dispatch = result.dispatch
        self._latency_model.observe_answer(dispatch.ticket.work, dispatch.factor, now_ns - result.ended_ns)
        times = StageTimes(
            result.queue_ns, prepared.elapsed_ns, result.inference_ns, post_ns, total_ns=now_ns - arrival_ns
        )
        return _answered(answers, result, times, wanted)

    async def _text_work(self, chars: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on texts of so many code points: on a text thread, or at once where that would take longer."""
        if chars <= MOST_INLINE_CHARS:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._text_pool, partial(work, *args, **kwargs))

    def _prepare(self, questions: Sequence[Question], settings: WindowSettings) -> _Prepared:
        """Tokens and windows of every question, ranked where the engine skims.

        Raises:
            TooManyWindowsError: found before any window of the offending question is made.
        """
        start_ns = self._clock_ns()
        all_tokens, all_windows, all_ranked, count = [], [], list[WindowTokens](), 0
        for item, question in enumerate(questions):
            question_tokens = self._tokenizer.encode(question.question)
            context_tokens = self._tokenizer.encode(question.context)
            count += window_count(len(question_tokens), len(context_tokens), settings)
            if count > self._max_windows:
                raise TooManyWindowsError(
                    f"the context needs {count} windows and at most {self._max_windows} are allowed "
                    "in one request: shorten it or ask in parts",
                    "context",
                    item,
                )
            all_tokens.append(context_tokens)
            windows = make_windows(question_tokens, context_tokens, self._tokenizer.special, settings)
            all_windows.append(windows)
            all_ranked += self._line.ranked(windows)
        alike = self._line.lengths_alike(all_ranked)
        return _Prepared(all_tokens, all_windows, all_ranked, alike, self._clock_ns() - start_ns)

    def _read_off(
        self, questions: Sequence[Question], prepared: _Prepared, logits: Sequence[WindowLogits], spans: SpanSettings
    ) -> tuple[tuple[tuple[Answer, ...], ...], int]:
        """Answers of every question, and the nanoseconds that took."""
        start_ns = self._clock_ns()
        answers, first = [], 0
        for question, tokens, windows in zip(questions, prepared.tokens, prepared.windows, strict=True):
            part = logits[first : first + len(windows)]
            answers.append(
                tuple(best_answers(question.context, tokens, windows, part, spans, kernels=self._tokenizer.kernels))
            )
            first += len(windows)
        return tuple(answers), self._clock_ns() - start_ns


def _answered(
    answers: tuple[tuple[Answer, ...], ...], result: InferenceResult, times: StageTimes, wanted: Wanted
) -> Answered:
    dispatch = result.dispatch
    work = dispatch.ticket.work
    slack_ns = None
    if wanted.budget_ns is not None:
        slack_ns = (
            dispatch.ticket.deadline_ns - dispatch.at_ns - int(work.base_ns[dispatch.configuration] * dispatch.factor)
        )
    return Answered(
        answers=answers,
        configuration=result.configuration,
        windows=work.windows,
        times=times,
        predicted_latency_ns=dispatch.predicted_latency_ns,
        slack_ns=slack_ns,
        profile_ns=float(work.profile_ns[dispatch.configuration]),
        factor=dispatch.factor,
    )


def window_count(question_tokens: int, context_tokens: int, settings: WindowSettings) -> int:
    """How many windows `reading.windows.make_windows` makes, without making them."""
    room = settings.max_length - min(question_tokens, settings.max_question) - 3
    return 1 + math.ceil(max(0, context_tokens - room) / (room - settings.overlap))
