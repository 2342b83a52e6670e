"""One straggler hardly counts; a host that changes its speed is followed; silence forgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.scale import ScaleFactor
from tests.server.routing.parts import MS, SECOND


def test_a_single_straggler_hardly_moves_the_factor() -> None:
    scale = ScaleFactor()
    for step in range(20):
        scale.observe(1.0, step * MS)
    scale.observe(5.0, 20 * MS)
    assert scale.value(20 * MS) < 1.03


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_host_that_changes_its_speed_is_followed_within_fifteen_requests(ratio: float) -> None:
    scale = ScaleFactor()
    for step in range(15):
        scale.observe(ratio, step * MS)
    assert scale.value(15 * MS) == pytest.approx(ratio, rel=0.1)


def test_noise_around_a_speed_averages_out() -> None:
    scale = ScaleFactor()
    for step, ratio in enumerate(np.random.default_rng(0).lognormal(math.log(1.3), 0.05, 500)):
        scale.observe(float(ratio), step * MS)
    assert scale.value(500 * MS) == pytest.approx(1.3, rel=0.06)


def test_without_news_the_factor_halves_its_way_back() -> None:
    scale = ScaleFactor(forget_ns=SECOND)
    for step in range(40):
        scale.observe(4.0, step * MS)
    seen = scale.value(40 * MS)
    assert scale.value(40 * MS + SECOND) == pytest.approx(seen, rel=0.01)
    assert math.log(scale.value(39 * MS + 2 * SECOND)) == pytest.approx(math.log(seen) / 2)
    assert scale.value(100 * SECOND) == pytest.approx(1.0)


@given(st.lists(st.one_of(st.floats(), st.floats(1e-9, 1e9)), max_size=60))
def test_the_factor_stays_within_an_eighth_and_eight(ratios: list[float]) -> None:
    scale = ScaleFactor(gain=1.0)
    for step, ratio in enumerate(ratios):
        scale.observe(ratio, step * MS)
        assert 1 / 8 - 1e-9 <= scale.value(step * MS) <= 8 + 1e-9
