"""Measuring an engine: which lengths, in which order, and never beyond the deadline."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.measuring import (
    Cell,
    CellTimer,
    NowAndThen,
    grid_lengths,
    probe_windows,
    spread_out,
    warm_up_what_fits,
)
from server.text_costs import ordinary_text
from tests.server.fixtures import fake_model
from tests.server.slow_engine import SECOND, Clock, slow_model


def test_lengths_are_multiples_of_a_step_and_the_longest() -> None:
    assert grid_lengths(64) == (16, 32, 48, 64)
    assert grid_lengths(60) == (16, 32, 48, 60)
    assert grid_lengths(10) == (10,)


@given(st.sets(st.integers(1, 600), min_size=1, max_size=40))
def test_lengths_are_taken_ends_first_and_each_once(lengths: set[int]) -> None:
    order = spread_out(sorted(lengths))
    assert sorted(order) == sorted(lengths)
    assert order[0] == max(lengths)
    assert order[1:2] == [min(lengths)] * (len(lengths) > 1)


def test_lengths_taken_first_are_spread_as_ratios() -> None:
    assert spread_out([16, 32, 64, 128, 256]) == [256, 16, 64, 32, 128]
    assert spread_out(range(16, 385, 16))[:6] == [384, 16, 80, 176, 32, 48]


@given(st.integers(5, 200))
def test_a_probe_window_has_a_question_and_a_context(length: int) -> None:
    tokenizer = fake_model().tokenizer
    window = probe_windows(tokenizer, ordinary_text(50), [length])[length]
    assert len(window.token_ids) == length
    assert window.token_ids[0] == tokenizer.special.cls_id
    assert window.token_ids[-1] == window.token_ids[window.segment_start - 1] == tokenizer.special.sep_id
    assert 3 <= window.segment_start < length


def test_no_call_is_begun_that_would_end_too_late() -> None:
    clock = Clock()
    model, engine = slow_model(clock, lambda _configuration, _length: 30)
    timer = CellTimer(engine, model.configurations, probe_windows(model.tokenizer, "a", [16]), clock, 100)
    cell = Cell(0, 16)
    assert [timer.round([cell]) for _ in range(4)] == [True, True, True, False]
    assert timer.samples == {cell: [30, 30, 30]}
    assert timer.typical_ns(Cell(1, 16)) is None


def test_lengths_are_warmed_up_as_long_as_there_is_time_to_measure_them() -> None:
    def ready(deadline_ns: int) -> list[int]:
        clock = Clock()
        model, engine = slow_model(clock, lambda _configuration, _length: 10, ratios=(0.5,))
        windows = probe_windows(model.tokenizer, "a", [16, 32, 64, 128])
        timer = CellTimer(engine, model.configurations, windows, clock, deadline_ns)
        return warm_up_what_fits(timer, [64, 16, 32, 128], rounds=3, warm_up_calls=2, progress=lambda _: None)

    assert ready(10_000) == [16, 32, 64, 128]
    assert ready(4 * 5 * 20) == [16, 32, 64]
    assert ready(2 * 5 * 20) == [16, 64]
    assert ready(3 * 20) == [64]
    assert ready(30) == []


def test_lines_come_at_most_every_two_seconds() -> None:
    clock = Clock()
    lines: list[str] = []
    say = NowAndThen(lines.append, clock)
    for tenth in range(100):
        clock.now_ns = tenth * SECOND // 10
        say(str(tenth))
    assert lines == ["20", "40", "60", "80"]
