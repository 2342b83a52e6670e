"""Whether a cheaper point is faster, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.table import document, times
from model_store import ModelStore
from server.engine import create_engine
from tests.model_store.tiny_artifact import publish_tiny
from tests.trainer.models import window

MACS = {"c02": 3.0, "c01": 6.0, "full": 10.0}


def ns(*values: int) -> Any:
    return np.array([[value] for value in values], dtype=np.int64)


def test_points_that_fall_with_cost_break_nothing() -> None:
    found = document({"c02": ns(4, 5, 6), "c01": ns(7, 8, 9), "full": ns(10, 10, 10)}, MACS, 0.55)
    assert found["broken"] == []
    assert [point["time_share"] for point in found["points"]] == [0.5, 0.8, 1.0]
    assert [point["macs_share"] for point in found["points"]] == [0.3, 0.6, 1.0]


def test_a_cheaper_point_that_takes_longer_and_a_slow_cheapest_one_are_broken() -> None:
    found = document({"c02": ns(9, 9), "c01": ns(8, 8), "full": ns(10, 10)}, MACS, 0.55)
    assert found["broken"] == ["c01 takes no more time than c02", "c02 takes 0.900 of full's time, at most 0.55"]


def test_every_round_runs_every_window_once_under_every_point(tmp_path: Any) -> None:
    publish_tiny(tmp_path)
    artifact = ModelStore(tmp_path).load("tiny")
    found = times(
        create_engine("fake", artifact), artifact.table.points, [window(5, vocabulary=9), window(9, vocabulary=9)], 4, 0
    )
    assert list(found) == [point.id for point in artifact.table.points]
    assert {each.shape for each in found.values()} == {(4, 2)}
    assert all((each >= 0).all() for each in found.values())
