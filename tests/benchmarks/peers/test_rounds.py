"""Who is asked what, and when."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.peers.growth import outlier
from benchmarks.peers.pieces import Piece
from benchmarks.peers.rounds import Questions, schedule, timed

NAMES = ["a", "b", "c"]


def piece(number: int) -> Piece:
    return Piece(np.array([number], dtype=np.int32), 1, 1)


def number(question: list[Piece]) -> int:
    return int(question[0].token_ids[0])


def test_every_system_meets_every_chunk_once_in_each_run() -> None:
    turns = schedule(NAMES, questions=45, runs=2, seed=0, chunk=20)
    chunks = [(0, 20), (20, 40), (40, 45)]
    expected = Counter((run, first, last, name) for run in range(2) for first, last in chunks for name in NAMES)
    assert Counter((turn.run, turn.first, turn.last, turn.system) for turn in turns) == expected


def test_a_chunk_goes_round_before_the_next_one_begins() -> None:
    turns = schedule(NAMES, questions=40, runs=1, seed=0, chunk=20)
    assert [turn.first for turn in turns] == [0, 0, 0, 20, 20, 20]


def test_the_order_is_seeded_and_changes_between_chunks() -> None:
    orders = [
        [turn.system for turn in schedule(NAMES, questions=200, runs=1, seed=seed, chunk=20)] for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(orders[0][place : place + 3]) for place in range(0, 30, 3)}) > 1


def test_times_are_kept_by_run_and_question_and_the_first_of_a_turn_does_not_count() -> None:
    calls: dict[str, list[list[int]]] = {name: [] for name in NAMES}

    def ask(name: str, questions: Questions) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        calls[name].append([number(list(question)) for question in questions])
        marks = [999, *calls[name][-1][1:]] if len(calls[name]) > 1 else calls[name][-1]
        return np.array(marks, dtype=np.int64)

    times = timed(ask, NAMES, [[piece(place)] for place in range(3)], runs=2, seed=0)
    for name in NAMES:
        assert calls[name] == [[0, 1, 2], [0, 0, 1, 2], [0, 0, 1, 2]]
        assert times[name].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_padding_goes_behind_the_window_and_counts_as_neither_text_nor_context() -> None:
    ids, mask, segments = Piece(np.array([5, 6, 7], dtype=np.int32), 2, 3).padded(5, pad_id=9).rows()
    assert ids.tolist() == [[5, 6, 7, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0, 0]]
    assert segments.tolist() == [[0, 0, 1, 0, 0]]


def test_a_piece_survives_its_way_to_a_worker() -> None:
    found = Piece.from_json(Piece(np.array([5, 6], dtype=np.int32), 1, 2).to_json())
    assert (found.token_ids.tolist(), found.segment_start, found.real_length) == ([5, 6], 1, 2)


def test_the_outlier_is_the_length_farthest_above_its_buckets_median() -> None:
    times = np.array([[10, 10, 30, 100], [10, 10, 30, 100], [10, 10, 70, 100]], dtype=np.int64)
    found = outlier([33, 34, 48, 49], times)  # 49 is in a bucket of its own
    assert (found.length, found.times, found.single) == (48, 3.0, 7.0)
    with pytest.raises(ValueError, match="no lengths"):
        outlier([], times[:, :0])
