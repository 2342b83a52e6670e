"""What is kept of a text by its scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.skimmer import REACH, chosen_tokens

HIGH = 9.0


def kept(scores: list[float], count: int) -> list[int]:
    return [int(place) for place in chosen_tokens(np.asarray(scores, dtype=np.float32), count)]


def peaks(length: int, **places: float) -> list[float]:
    """Zeros but for ``p3=1.0``: a score of 1 at place 3."""
    scores = [0.0] * length
    for name, score in places.items():
        scores[int(name[1:])] = score
    return scores


def test_the_text_around_the_highest_score_is_kept() -> None:
    assert REACH == 7
    assert kept(peaks(40, p20=HIGH), 15) == list(range(13, 28))


def test_of_a_stretch_that_does_not_fit_the_best_and_then_the_earliest_stay() -> None:
    assert kept(peaks(40, p20=HIGH), 4) == [13, 14, 15, 20]
    assert kept(peaks(40, p20=HIGH, p22=3.0), 4) == [13, 14, 20, 22]


def test_two_stretches_are_filled_in_the_order_of_their_best() -> None:
    scores = peaks(60, p10=5.0, p45=HIGH)
    assert kept(scores, 15) == list(range(38, 53))
    assert kept(scores, 18) == [3, 4, 10, *range(38, 53)]
    assert kept(scores, 30) == [*range(3, 18), *range(38, 53)]


def test_a_stretch_ends_with_the_text() -> None:
    assert kept(peaks(30, p0=HIGH), 8) == list(range(8))
    assert kept(peaks(30, p29=HIGH), 8) == list(range(22, 30))


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=80), st.floats(0, 1))
def test_as_many_places_as_wanted_are_kept_once_each_in_reading_order(scores: list[float], share: float) -> None:
    count = round(share * len(scores))
    found = kept(scores, count)
    assert len(found) == count
    assert found == sorted(set(found))
    assert all(0 <= place < len(scores) for place in found)


@pytest.mark.parametrize("length", [1, 3, 50])
def test_equal_scores_keep_the_beginning(length: int) -> None:
    assert kept([1.0] * length, length // 2) == list(range(length // 2))
