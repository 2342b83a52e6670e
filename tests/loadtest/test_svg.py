from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.svg import HEIGHT, WIDTH, Axes, lines, stacked, ticks


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(0.0, 10.0, [0, 2, 4, 6, 8, 10]), (0.0, 0.7, [0.0, 0.2, 0.4, 0.6]), (-3.0, 0.0, [-3, -2, -1, 0]), (0.0, 0.0, [0])],
)
def test_ticks_by_hand(least: float, most: float, expected: list[float]) -> None:
    assert ticks(least, most) == pytest.approx(expected)


@given(least=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(least: float, span: float) -> None:
    found = ticks(least, least + span)
    assert 2 <= len(found) <= 7
    assert all(least - span * 1e-6 <= value <= least + span * (1 + 1e-6) for value in found)


def test_bars_stand_on_each_other() -> None:
    found = stacked(Axes("s", "n", 2.0, 4.0), 1.0, {"a": [1, 2], "b": [1, 0]}, {"a": "red", "b": "blue"})
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)" fill="(\w+)"', found)
    assert [bar[3] for bar in bars] == ["red", "red", "blue"]
    red, _, blue = bars
    assert float(blue[1]) + float(blue[2]) == pytest.approx(float(red[1]), abs=0.2)


@given(points=st.lists(st.tuples(st.floats(0, 10), st.floats(-5, 50)), max_size=20))
def test_lines_stay_inside(points: list[tuple[float, float]]) -> None:
    found = lines(Axes("x", "y", 10.0, 20.0), {"a": points}, {"a": "red"})
    for x, y in re.findall(r"([\d.-]+),([\d.-]+)", found.split('points="')[1].split('"')[0]):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
