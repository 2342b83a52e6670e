from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.search import Evaluation, area_under_frontier, non_dominated, thin
from trainer.search.front import apart, compare_areas

FRONT = [Evaluation((1,), 1.0, 10.0), Evaluation((2,), 2.0, 20.0), Evaluation((4,), 4.0, 30.0)]
numbers = st.integers(1, 8).map(float)
evaluations = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20).map(
    lambda pairs: [Evaluation((place,), *pair) for place, pair in enumerate(pairs)]
)


def test_dominated_and_equal_points_are_left_out() -> None:
    worse = [Evaluation((3,), 3.0, 20.0), Evaluation((5,), 2.0, 15.0), Evaluation((6,), 5.0, 30.0)]
    assert non_dominated([*worse, *FRONT, Evaluation((9,), 2.0, 20.0)]) == tuple(FRONT)


@given(evaluations)
def test_the_front_is_all_that_nothing_dominates(given_: list[Evaluation]) -> None:
    front = non_dominated(given_)
    expected = {(a.cost, a.score) for a in given_ if not any(b.dominates(a) for b in given_)}
    assert {(each.cost, each.score) for each in front} == expected
    assert [each.cost for each in front] == sorted({each.cost for each in front})


def test_the_area_is_the_mean_of_the_staircase() -> None:
    # 10 from 1 to 2, 20 from 2 to 4, 30 from 4 to 5
    assert area_under_frontier(FRONT, 1.0, 5.0) == pytest.approx((10 + 40 + 30) / 4)
    assert area_under_frontier(FRONT, 1.5, 3.0) == pytest.approx((5 + 20) / 1.5)
    assert area_under_frontier(FRONT, 4.5, 5.0) == pytest.approx(30.0)


def test_no_area_where_nothing_can_be_bought() -> None:
    with pytest.raises(ValueError, match="no evaluation costs"):
        area_under_frontier(FRONT, 0.5, 5.0)
    with pytest.raises(ValueError, match="no costs between"):
        area_under_frontier(FRONT, 5.0, 5.0)
    with pytest.raises(ValueError, match="empty front"):
        compare_areas(FRONT, [])


def test_fronts_are_compared_where_both_have_points() -> None:
    other = [Evaluation((1,), 2.0, 12.0), Evaluation((2,), 3.0, 18.0)]
    compared = compare_areas(FRONT, other)
    assert (compared.low, compared.high) == (2.0, 3.0)
    assert [compared.found, compared.baseline] == pytest.approx([20.0, 12.0])


def test_thinning_keeps_the_ends_and_spreads_the_rest() -> None:
    line = [Evaluation((place,), float(place), float(place)) for place in (0, 1, 2, 3, 5, 9, 10)]
    assert [each.genes[0] for each in thin(line, 3)] == [0, 5, 10]
    assert [each.genes[0] for each in thin(line, 2)] == [0, 10]
    assert thin(line, 7) == tuple(line)
    with pytest.raises(ValueError, match="two points"):
        thin(line, 1)


@given(evaluations, st.integers(2, 20))
def test_thinning_gives_as_many_as_it_may(given_: list[Evaluation], count: int) -> None:
    front = non_dominated(given_)
    kept = thin(front, count)
    assert len(kept) == min(count, len(front))
    assert set(kept) <= set(front)
    assert (kept[0], kept[-1]) == (front[0], front[-1])


def test_of_points_that_cost_nearly_the_same_the_best_is_kept_and_the_dearest_always() -> None:
    front = tuple(Evaluation((place,), cost, place) for place, cost in enumerate((1.0, 1.02, 1.5, 1.55, 1.59, 2.0)))
    costs = np.array([[each.cost] for each in front])
    assert [each.cost for each in apart(front, costs, 0.05)] == [1.02, 1.5, 1.59, 2.0]
    assert apart(front, costs, 0.0) == front
    assert apart((), np.zeros((0, 1)), 0.05) == ()


def test_points_are_apart_at_every_length() -> None:
    front = tuple(Evaluation((place,), place, place) for place in range(4))
    costs = np.array([[1.0, 1.0], [2.0, 3.5], [3.0, 3.2], [4.0, 4.0]])  # at the other length the second is dearer
    assert [each.genes[0] for each in apart(front, costs, 0.5)] == [0, 2, 3]
    assert [each.genes[0] for each in apart(front, costs[:, :1], 0.5)] == [0, 1, 2, 3]
