"""Losses and rank correlations, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_store import LengthConfiguration, ParetoPoint, ParetoTable
from reading import QuestionScores
from trainer.search.comparing import int8_loss, rank_correlation

RATIOS = {"c02": 0.25, "c01": 0.5, "full": 1.0}


def table(dev: tuple[float | None, ...]) -> ParetoTable:
    points = [
        ParetoPoint(LengthConfiguration(name, (ratio, ratio)), 1e6 * ratio, 100.0 * ratio, 50.0 * ratio)
        for name, ratio in RATIOS.items()
    ]
    return ParetoTable(tuple(replace(point, dev_f1=f1) for point, f1 in zip(points, dev, strict=True)), 100.0)


def scores(*f1: float) -> QuestionScores:
    return QuestionScores(np.zeros(len(f1)), np.asarray(f1), 0)


def test_the_loss_is_the_float_twins_f1_less_that_of_int8_in_points() -> None:
    loss = int8_loss(
        LengthConfiguration("c01", (0.5, 0.5)),
        int8=lambda _: scores(0.5, 1.0, 0.0, 0.5),
        twin=lambda _: scores(0.5, 1.0, 0.5, 0.4),
        seed=0,
    )
    assert (loss.id, loss.int8) == ("c01", 50.0)
    assert loss.difference.mean == pytest.approx(10.0)
    assert loss.difference.low <= 10.0 <= loss.difference.high


@pytest.mark.parametrize(
    ("dev", "wanted"),
    [((30.0, 60.0, 90.0), 1.0), ((90.0, 60.0, 30.0), -1.0), ((60.0, 30.0, 90.0), 0.5), ((30.0, 60.0, 60.0), 0.866025)],
)
def test_ranks_are_correlated_and_equal_figures_share_one(dev: tuple[float, ...], wanted: float) -> None:
    assert rank_correlation(table(dev)) == pytest.approx(wanted, abs=1e-5)


def test_points_that_are_all_equal_have_no_order() -> None:
    assert rank_correlation(table((5.0, 5.0, 5.0))) is None


def test_ranks_need_dev_f1_at_every_point() -> None:
    with pytest.raises(ValueError, match="not measured"):
        rank_correlation(table((30.0, None, 60.0)))
