from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_store import LengthConfiguration, ParetoTable
from reading import QuestionScores
from tests.trainer.search import toy
from trainer.search import Evaluation
from trainer.search.core import CostFunction
from trainer.search.frozen import (
    DEV_FILE,
    REPORTED_FILE,
    TABLE_FILE,
    FrozenTableError,
    freeze,
    published_table,
    read_frozen,
    report_dev,
)
from trainer.search.table import Rescored, candidates, make_table, rescore

GENES = [(3, 2, 1), (4, 4, 4), (6, 3, 2), (6, 6, 6)]


def scores(f1: float) -> QuestionScores:
    return QuestionScores(np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, f1, f1, f1]), 0)


def rescored(*f1: float) -> list[Rescored]:
    return [Rescored(genes, value, value - 9.0, value - 1.0, value + 1.0) for genes, value in zip(GENES, f1)]  # noqa: B905 - all or the first ones


def table(*f1: float, points: int = 9) -> ParetoTable:
    return make_table(
        toy.SPACE,
        rescored(*f1),
        lambda length: lambda configuration: length * 1e5 * toy.cost(configuration),
        [48],
        points,
    )


def test_candidates_are_the_front_and_full_at_its_end() -> None:
    found = [Evaluation(genes, cost, f1) for genes, cost, f1 in zip(GENES, (1, 2, 3, 9), (1, 5, 2, 3), strict=True)]
    assert candidates(toy.SPACE, found, 9) == ((3, 2, 1), (4, 4, 4), (6, 6, 6))
    assert candidates(toy.SPACE, found, 2) == ((3, 2, 1), (6, 6, 6))
    with pytest.raises(ValueError, match="has not evaluated the full"):
        candidates(toy.SPACE, found[:3], 9)


def test_what_few_questions_cannot_tell_from_the_front_fills_its_gaps() -> None:
    genes = [(3, 2, 1), (4, 3, 2), (4, 4, 4), (5, 4, 3), (6, 3, 2), (6, 6, 6)]
    f1 = (70.0, 67.9, 75.0, 73.0, 72.9, 76.0)  # the second is too far under the front, the fifth just so
    found = [Evaluation(each, cost, score) for cost, (each, score) in enumerate(zip(genes, f1, strict=True))]
    wanted = ((3, 2, 1), (4, 4, 4), (5, 4, 3), (6, 6, 6))
    assert candidates(toy.SPACE, found, 9) == candidates(toy.SPACE, found, 4) == wanted
    assert candidates(toy.SPACE, found, 3) == ((3, 2, 1), (4, 4, 4), (6, 6, 6))


def test_rescoring_scores_each_once_and_goes_on() -> None:
    asked: list[str] = []

    def evaluate(configuration: LengthConfiguration) -> QuestionScores:
        asked.append(configuration.id)
        return scores(0.5)

    made: list[Rescored] = []
    first = rescore(toy.SPACE, [GENES[0], GENES[3], GENES[0]], evaluate, seed=1, on_rescored=made.append)
    assert (asked, list(first)) == (["3-2-1", "full"], made)
    assert (made[0].f1, made[0].exact_match) == (62.5, 25.0)
    assert 50.0 <= made[0].low < 62.5 < made[0].high <= 100.0
    again = rescore(toy.SPACE, [GENES[0], GENES[1], GENES[3]], evaluate, seed=1, known=made)
    assert asked[2:] == ["4-4-4"]
    assert [each.genes for each in again] == [GENES[0], GENES[1], GENES[3]]


def test_what_turns_out_dominated_is_dropped_and_ids_fall_with_cost() -> None:
    made = table(50.0, 60.0, 70.0, 80.0)  # (6, 3, 2) costs less than (4, 4, 4)
    assert [(point.id, point.held_out_f1) for point in made.points] == [("c02", 50.0), ("c01", 70.0), ("full", 80.0)]
    assert made.points[1].configuration.ratios == (1.0, 0.5, 2 / 6)
    assert made.points[1].held_out_f1_interval == (69.0, 71.0)
    assert made.mean_real_length == 48.0


def test_full_stays_though_it_be_dominated() -> None:
    assert [point.id for point in table(50.0, 90.0, 70.0, 80.0).points] == ["c03", "c02", "c01", "full"]
    assert [point.id for point in table(50.0, 90.0, 70.0, 80.0, points=2).points] == ["c01", "full"]


def test_points_that_cost_the_same_at_another_length_are_one() -> None:
    def cost_at(length: int) -> CostFunction:
        alike = {"4-4-4": "6-3-2"} if length == 56 else {}
        costs = {"3-2-1": 1.0, "6-3-2": 1.8, "4-4-4": 2.0, "full": 3.0}
        return lambda configuration: length * costs[alike.get(configuration.id, configuration.id)]

    found = rescored(50.0, 75.0, 70.0, 80.0)
    assert len(make_table(toy.SPACE, found, cost_at, [48, 64], 9).points) == 4
    made = make_table(toy.SPACE, found, cost_at, range(48, 65, 8), 9)
    assert [(point.macs, point.held_out_f1) for point in made.points] == [(48.0, 50.0), (96.0, 75.0), (144.0, 80.0)]


def test_no_table_without_full_or_a_length() -> None:
    with pytest.raises(ValueError, match="was not scored again"):
        table(50.0, 60.0)
    with pytest.raises(ValueError, match="one length at least"):
        make_table(toy.SPACE, rescored(50.0, 60.0, 70.0, 80.0), lambda _: toy.cost, [], 9)


def dev(asked: list[str], stop: int = 99) -> Callable[[LengthConfiguration], QuestionScores]:
    def evaluate(configuration: LengthConfiguration) -> QuestionScores:
        if len(asked) == stop:
            raise KeyboardInterrupt
        asked.append(configuration.id)
        return scores(0.8)

    return evaluate


def test_dev_is_measured_once_per_point_after_freezing_and_changes_nothing_else(tmp_path: Path) -> None:
    frozen = freeze(tmp_path, table(50.0, 60.0, 70.0, 80.0), {"questions": 4})
    before = (tmp_path / TABLE_FILE).read_bytes()
    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        report_dev(tmp_path, {"sha256": "a"}, dev(asked, stop=2))
    assert published_table(tmp_path) == frozen.table
    reported = report_dev(tmp_path, {"sha256": "a"}, dev(asked))
    assert asked == ["c02", "c01", "full"]
    assert report_dev(tmp_path, {"sha256": "a"}, dev(asked, stop=3)) == reported
    assert [(point.dev_f1, point.dev_exact_match) for point in reported.points] == [(85.0, 25.0)] * 3
    assert (tmp_path / TABLE_FILE).read_bytes() == before
    assert (read_frozen(tmp_path), published_table(tmp_path)) == (frozen, reported)
    with pytest.raises(FrozenTableError, match=DEV_FILE):
        report_dev(tmp_path, {"sha256": "b"}, dev(asked))


def test_a_frozen_table_cannot_be_replaced_or_changed(tmp_path: Path) -> None:
    with pytest.raises(FrozenTableError, match="no table is frozen"):
        read_frozen(tmp_path)
    freeze(tmp_path, table(50.0, 60.0, 70.0, 80.0), {})
    other = table(40.0, 60.0, 70.0, 80.0)
    with pytest.raises(FrozenTableError, match="frozen already"):
        freeze(tmp_path, other, {})
    (tmp_path / REPORTED_FILE).write_bytes(other.to_json())
    with pytest.raises(FrozenTableError, match="more than dev figures"):
        published_table(tmp_path)
    (tmp_path / TABLE_FILE).write_bytes(other.to_json())
    with pytest.raises(FrozenTableError, match="has changed since"):
        read_frozen(tmp_path)
