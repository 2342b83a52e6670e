"""Parts of the core that have corners of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_store import LengthConfiguration
from reading.tokens import SpecialTokens, TokenizedText
from reading.windows import WindowSettings, make_windows
from server.answering import MOST_INLINE_CHARS, Answerer, Question, window_count
from server.engine.interface import WindowTokens
from server.engine.skimming import (
    RankedWindow,
    SkimmingEngine,
    entering_tokens,
    lengths_alike,
    ranked_windows,
)
from server.errors import InvalidReadingError, ModelLoadError, OverloadedError
from server.model import LoadedModel, ReadingOptions
from server.routing.ticket import Request
from tests.server.fixtures import fake_model


def tokens(count: int) -> TokenizedText:
    places = np.arange(count, dtype=np.int32)
    return TokenizedText(places, places, places + 1)


@given(st.integers(0, 40), st.integers(0, 400), st.integers(0, 9), st.integers(20, 60), st.integers(1, 6))
def test_windows_are_counted_as_they_are_made(
    question: int, context: int, overlap: int, length: int, most: int
) -> None:
    settings = WindowSettings(max_length=length, overlap=overlap, max_question=most)
    made = make_windows(tokens(question), tokens(context), SpecialTokens(0, 1, 2), settings)
    assert window_count(question, context, settings) == len(made)


def test_shorter_windows_shrink_the_other_defaults() -> None:
    windows = fake_model().reading_settings(ReadingOptions(max_length=16)).windows
    assert (windows.max_length, windows.max_question, windows.overlap) == (16, 4, 4)


@pytest.mark.parametrize("length", [16, 17, 40, 64, 100, 128])
def test_every_allowed_window_length_works_alone(length: int) -> None:
    assert fake_model().reading_settings(ReadingOptions(max_length=length)).windows.max_length == length


def test_lengths_that_contradict_each_other_name_a_field_that_was_given() -> None:
    with pytest.raises(InvalidReadingError) as caught:
        fake_model().reading_settings(ReadingOptions(max_question=62))
    assert caught.value.field == "max_question"


def test_an_unknown_length_configuration_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ModelLoadError, match="c01, full"):
        fake_model().configuration("c07")


def test_short_texts_stay_on_the_event_loop_and_long_ones_go_to_a_text_thread() -> None:
    unused: Any = None
    with ThreadPoolExecutor(1) as pool:
        answerer = Answerer(unused, unused, unused, pool, max_waiting=1, max_windows=1)

        async def on_own_thread(chars: int) -> bool:
            return await answerer._text_work(chars, threading.get_ident) == threading.get_ident()

        assert asyncio.run(on_own_thread(MOST_INLINE_CHARS))
        assert not asyncio.run(on_own_thread(MOST_INLINE_CHARS + 1))


class OnlyAsked:
    """A line that ranks by a skimmer and then takes nothing."""

    def __init__(self, model: LoadedModel) -> None:
        self.engine = SkimmingEngine(model.engine, self, model.architecture, np.full(19, 3.0, dtype=np.float32))
        self.configurations = [LengthConfiguration("c01", (1.0, 1.0), 0, 0.25), model.configuration("full")]
        self.offered: list[tuple[Sequence[WindowTokens], Request]] = []

    def scores(self, question: NDArray[np.int32], text: NDArray[np.int32]) -> NDArray[np.float32]:
        """As if the text began with the answer."""
        return np.where(np.arange(len(text)) == 0, 9.0, 0.0).astype(np.float32)

    def ranked(self, windows: Sequence[WindowTokens]) -> Sequence[WindowTokens]:
        return ranked_windows(self.engine, windows, self.configurations)

    def lengths_alike(self, windows: Sequence[WindowTokens]) -> NDArray[np.int64] | None:
        return lengths_alike(windows, self.configurations)

    async def run(self, windows: Sequence[WindowTokens], request: Request) -> None:
        self.offered.append((windows, request))
        raise OverloadedError("never")


def test_the_router_hears_how_much_of_each_text_is_left() -> None:
    model, unused = fake_model(), cast(Any, None)
    line = OnlyAsked(model)
    short, long = Question("who", "the tower " * 5), Question("who", "the tower " * 30)
    with ThreadPoolExecutor(1) as pool:
        answerer = Answerer(model.tokenizer, cast(Any, line), unused, pool, max_waiting=1, max_windows=20)
        with pytest.raises(OverloadedError):
            asyncio.run(answerer.answer([short, long], model.reading_settings()))
    ((windows, request),) = line.offered
    lengths = [len(window.token_ids) for window in windows]
    assert request.window_lengths == tuple(lengths)
    assert len(lengths) > 2
    assert [isinstance(window, RankedWindow) for window in windows] == [True] + [False] * (len(lengths) - 1)
    assert request.lengths_alike is not None
    skimming, full = request.lengths_alike.tolist()
    assert full == lengths
    assert skimming[1:] == lengths[1:]
    assert skimming[0] == 4 * entering_tokens(windows[0], line.configurations[0])
