from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import SpecialTokens, TokenizedText, Window, WindowSettings, make_windows

SPECIAL = SpecialTokens(cls_id=1, sep_id=2, pad_id=0)


def tokens(count: int, first_id: int = 100) -> TokenizedText:
    places = np.arange(count, dtype=np.int32)
    return TokenizedText(places + first_id, places, places + 1)


def cut(question: int, context: int, settings: WindowSettings) -> list[Window]:
    return make_windows(tokens(question, 10), tokens(context, 1000), SPECIAL, settings)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, WindowSettings]:
    max_question = draw(st.integers(1, 8))
    overlap = draw(st.integers(0, 6))
    max_length = max_question + 3 + overlap + draw(st.integers(1, 10))
    settings = WindowSettings(max_length, overlap, max_question)
    return draw(st.integers(0, 12)), draw(st.integers(0, 80)), settings


@given(cuts())
def test_every_context_token_is_in_a_window_in_order(case: tuple[int, int, WindowSettings]) -> None:
    question, context, settings = case
    seen = set()
    for window in cut(question, context, settings):
        part = window.token_ids[window.segment_start : window.segment_start + window.context_count]
        expected = np.arange(window.context_first, window.context_first + window.context_count) + 1000
        assert part.tolist() == expected.tolist()
        seen.update(part.tolist())
    assert seen == set(range(1000, 1000 + context))


@given(cuts())
def test_neighbours_share_exactly_the_overlap_and_only_the_last_window_is_short(
    case: tuple[int, int, WindowSettings],
) -> None:
    windows = cut(*case)
    settings = case[2]
    for left, right in pairwise(windows):
        assert left.context_first + left.context_count - right.context_first == settings.overlap
        assert len(left) == settings.max_length
        assert right.context_count > settings.overlap


@given(cuts())
def test_a_window_has_its_real_length_and_the_frame_of_bert(case: tuple[int, int, WindowSettings]) -> None:
    question, _, settings = case
    kept = min(question, settings.max_question)
    for window in cut(*case):
        ids = window.token_ids
        assert ids.dtype == np.int32
        assert len(window) == kept + window.context_count + 3 <= settings.max_length
        assert ids[0] == SPECIAL.cls_id
        assert ids[1 : kept + 1].tolist() == list(range(10, 10 + kept))
        assert ids[window.segment_start - 1] == ids[-1] == SPECIAL.sep_id
        assert window.segment_start == kept + 2


def test_a_long_question_loses_its_end() -> None:
    (window,) = cut(9, 3, WindowSettings(max_length=20, overlap=2, max_question=4))
    assert window.token_ids.tolist() == [1, 10, 11, 12, 13, 2, 1000, 1001, 1002, 2]


def test_an_empty_context_gives_one_window_without_context_tokens() -> None:
    (window,) = cut(2, 0, WindowSettings())
    assert window.token_ids.tolist() == [1, 10, 11, 2, 2]
    assert (window.segment_start, window.context_first, window.context_count) == (4, 0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [((384, 128, 0), "max_question"), ((384, -1, 64), "overlap"), ((60, 10, 50), "leaves 7 context tokens")],
)
def test_settings_that_cannot_move_forward_are_refused(values: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowSettings(*values)
