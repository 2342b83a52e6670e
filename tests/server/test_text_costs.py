"""What a request costs beside inference: texts that a seed fixes, and lines through their times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading.spans import SpanSettings
from reading.windows import WindowSettings
from server.text_costs import fit_line, measure_text_costs, ordinary_text
from tests.server.fixtures import fake_model


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.lists(st.integers(0, 10_000), min_size=2, max_size=8, unique=True))
def test_a_line_is_found_again(fixed: float, slope: float, sizes: list[int]) -> None:
    times = [1.0 + fixed + slope * size for size in sizes]
    found_fixed, found_slope = fit_line(sizes, times)
    assert found_fixed >= 0.0 <= found_slope
    assert [found_fixed + found_slope * size for size in sizes] == pytest.approx(times, rel=1e-3)


def test_neither_part_of_a_line_is_negative() -> None:
    assert fit_line([1, 2], [10.0, 5.0])[1] == 0.0
    fixed, slope = fit_line([10, 20], [100.0, 400.0])
    assert fixed == 0.0
    assert 10.0 < slope < 20.0


def test_texts_are_ascii_words_that_a_seed_fixes() -> None:
    assert ordinary_text(30) == ordinary_text(30) != ordinary_text(30, seed=1)
    assert ordinary_text(30).isascii()
    assert len(ordinary_text(30).split()) == 30
    assert ordinary_text(0) == ""


def test_text_costs_are_those_of_the_clock() -> None:
    ticks = iter(range(0, 10**9, 1000))
    model = fake_model()
    costs = measure_text_costs(
        model.tokenizer, WindowSettings(64, 16, 16), SpanSettings(), rounds=2, seconds=1, clock_ns=lambda: next(ticks)
    )
    assert costs.tokenize_ns == pytest.approx(1000.0)
    assert costs.answer_ns == pytest.approx(2000.0)
    assert costs.tokenize_ns_per_char == pytest.approx(0.0, abs=1e-6)
    assert costs.answer_ns_per_window == pytest.approx(0.0, abs=1e-6)
