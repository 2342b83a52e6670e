"""What is kept of a text by its scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.errors import InvalidTensorError
from model_store.skimmer import (
    MARGIN_SHARES,
    MOST_OF_SHARE,
    REACH,
    SHORTEST_TEXT,
    chosen_tokens,
    margin_of,
    marginal_count,
    rank_tokens,
    read_skimmer,
    write_skimmer,
)
from tests.model_store.tiny_artifact import TINY, tiny_skimmer

HIGH = 9.0
MARGINS = np.linspace(1.0, 10.0, len(MARGIN_SHARES), dtype=np.float32)


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


def worth(scores: list[float]) -> np.ndarray:
    return rank_tokens(np.asarray(scores, dtype=np.float32)).worth


def test_tokens_are_worth_as_much_as_the_best_within_reach() -> None:
    assert worth(peaks(40, p20=HIGH)).tolist() == [HIGH] * 15 + [0.0] * 25


def test_of_a_text_whose_best_stretch_stands_out_only_that_is_kept() -> None:
    found = worth(peaks(60, p20=HIGH, p45=4.0))
    assert marginal_count(found, 20, 4.9) == 15
    assert marginal_count(found, 20, 5.0) == 30  # the second best stretch is just near enough


def test_of_a_text_without_a_best_stretch_twice_its_share_is_kept_at_most() -> None:
    assert MOST_OF_SHARE == 2
    assert marginal_count(worth([1.0] * 60), 20, 0.5) == 40
    assert marginal_count(worth([1.0] * 30), 20, 0.5) == 30


def test_a_little_text_stays_however_sure_the_skimmer_is() -> None:
    assert SHORTEST_TEXT == 8
    assert marginal_count(worth(peaks(40, p0=HIGH, p1=8.0)), 8, 0.0) == 8


@given(st.lists(st.floats(-50, 50, width=32), min_size=9, max_size=80), st.integers(8, 80), st.floats(0, 60))
def test_a_wider_margin_never_keeps_less(scores: list[float], share: int, margin: float) -> None:
    found = worth(scores)
    less, more = (marginal_count(found, share, each) for each in (margin, margin + 1.0))
    assert SHORTEST_TEXT <= less <= more <= min(2 * share, len(scores))


def test_margins_are_linear_between_shares() -> None:
    assert (MARGIN_SHARES[0], MARGIN_SHARES[-1], len(MARGIN_SHARES)) == (0.05, 0.95, 19)
    assert margin_of(0.05, MARGINS) == 1.0
    assert margin_of(0.5, MARGINS) == pytest.approx(5.5)
    assert margin_of(0.525, MARGINS) == pytest.approx(5.75)
    assert margin_of(0.99, MARGINS) == 10.0


def test_a_skimmer_has_margins_or_none(tmp_path: Path) -> None:
    path = tmp_path / "skimmer.safetensors"
    write_skimmer(path, tiny_skimmer(), TINY.vocabulary)
    assert "margin" not in read_skimmer(path, TINY.vocabulary)
    write_skimmer(path, tiny_skimmer() | {"margin": MARGINS}, TINY.vocabulary)
    assert read_skimmer(path, TINY.vocabulary)["margin"].tolist() == MARGINS.tolist()


@pytest.mark.parametrize("margins", [MARGINS - 2.0, MARGINS[::-1].copy(), MARGINS[:5], MARGINS.astype(np.float64)])
def test_margins_that_make_no_sense_are_refused(tmp_path: Path, margins: np.ndarray) -> None:
    with pytest.raises(InvalidTensorError, match="margin"):
        write_skimmer(tmp_path / "skimmer.safetensors", tiny_skimmer() | {"margin": margins}, TINY.vocabulary)
