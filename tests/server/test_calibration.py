"""Calibration, probe and start-up, with a clock that only the engine moves: no real time is looked at."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration
from model_store.pareto import macs
from server.calibration import CalibrationError, calibrate, describe, probe, profile_for, profile_key
from server.engine.interface import EngineInfo
from server.profiles import profile_path, store_profile
from tests.server.fixtures import fake_model
from tests.server.slow_engine import MILLISECOND, SECOND, Clock, Duration, slow_model


def by_tokens(configuration: LengthConfiguration, length: int) -> float:
    return MILLISECOND * (1 + sum(configuration.kept_tokens(length)) / 16)


def proportional(architecture: Architecture) -> Duration:
    return lambda configuration, length: 1000 + macs(architecture, length, configuration.kept_tokens(length))


def test_every_configuration_is_measured_at_every_length_when_there_is_time() -> None:
    clock = Clock()
    model, _ = slow_model(clock, by_tokens)
    profile = calibrate(model, seconds=60, clock_ns=clock)
    assert clock.now_ns <= 60 * SECOND
    assert profile.measured == "calibrated"
    assert profile.key == profile_key(model)
    assert profile.configurations == ("c03", "c02", "c01", "full")
    assert profile.lengths == (16, 32, 48, 64, 128)
    for configuration, row in zip(model.configurations, profile.window_ns, strict=True):
        expected = [by_tokens(configuration, length) for length in profile.lengths]
        assert row == pytest.approx(expected, abs=1)
    assert profile.residuals == (1.0,) * 200


def test_rounds_are_interleaved_in_an_order_that_a_seed_fixes() -> None:
    orders = []
    for seed in (0, 0, 1):
        clock = Clock()
        model, engine = slow_model(clock, by_tokens)
        calibrate(model, seconds=10, clock_ns=clock, seed=seed)
        orders.append(engine.order)
    assert orders[0] == orders[1] != orders[2]
    cells = len(set(orders[0]))
    measured = orders[0][2 * cells :]  # two calls of each warm up
    rounds = [measured[first : first + cells] for first in range(0, len(measured) - cells + 1, cells)]
    assert len(rounds) >= 9
    assert all(len(set(one)) == cells for one in rounds)
    assert rounds[0] != rounds[1]


def test_outliers_move_the_residuals_and_not_the_times() -> None:
    noise = [1.0, 0.9, 1.1, 1.0, 4.0, 1.0, 0.95, 1.05, 1.0, 1.0, 1.0]
    clock = Clock()
    model, _ = slow_model(clock, by_tokens, noise=noise)
    profile = calibrate(model, seconds=100, clock_ns=clock)
    for configuration, row in zip(model.configurations, profile.window_ns, strict=True):
        assert row == pytest.approx([by_tokens(configuration, length) for length in profile.lengths], rel=0.051)
    assert profile.residual(0.5) == pytest.approx(1.0, abs=0.05)
    assert profile.residual(0.99) > 3.0


def test_a_cheaper_configuration_that_is_slower_stays_so() -> None:
    def upside_down(configuration: LengthConfiguration, length: int) -> float:
        return MILLISECOND * (3 if configuration.id == "c03" and length == 32 else 1)

    clock = Clock()
    model, _ = slow_model(clock, upside_down)
    profile = calibrate(model, seconds=60, clock_ns=clock)
    column = [row[profile.lengths.index(32)] for row in profile.window_ns]
    assert column == pytest.approx([3 * MILLISECOND, MILLISECOND, MILLISECOND, MILLISECOND])


def test_less_time_gives_fewer_lengths_spread_out_and_no_fewer_calls() -> None:
    clock = Clock()
    model, engine = slow_model(clock, lambda _configuration, _length: 10.0 * MILLISECOND)
    profile = calibrate(model, seconds=1.5, clock_ns=clock)
    assert clock.now_ns <= 1.5 * SECOND
    assert 2 <= len(profile.lengths) < 5
    assert (profile.lengths[0], profile.lengths[-1]) == (16, 64)
    assert min(engine.order.count(cell) for cell in engine.cells) >= 2 + 5


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.45])
def test_too_little_time_for_anything_is_an_error_that_says_so(seconds: float) -> None:
    clock = Clock()
    model, _ = slow_model(clock, lambda _configuration, _length: 10.0 * MILLISECOND)
    with pytest.raises(CalibrationError, match="too short"):
        calibrate(model, seconds=seconds, clock_ns=clock)
    assert clock.now_ns <= seconds * SECOND + 10 * MILLISECOND


def test_a_progress_line_comes_every_few_seconds() -> None:
    clock = Clock()
    model, _ = slow_model(clock, lambda _configuration, _length: 50.0 * MILLISECOND)
    lines: list[str] = []
    calibrate(model, seconds=60, clock_ns=clock, progress=lines.append)
    rounds = [line for line in lines if "rounds" in line]
    assert 5 <= len(rounds) <= 30
    assert all("s left" in line for line in rounds)


def test_a_padding_engine_makes_a_profile_of_steps() -> None:
    clock = Clock()
    model, engine = slow_model(clock, by_tokens)
    engine._info = EngineInfo("fake", "none", 1, "none", length_step=16)
    profile = calibrate(model, seconds=20, clock_ns=clock)
    assert profile.length_step == 16
    assert profile.table[-1, 33] == profile.table[-1, 48] > profile.table[-1, 32]


def test_a_probe_measures_nine_cells_and_estimates_the_rest_by_macs() -> None:
    clock = Clock()
    model, engine = slow_model(clock, proportional(fake_model().architecture))
    profile = probe(model, clock_ns=clock)
    assert profile.measured == "probed"
    assert engine.cells == {(name, length) for name in ("c03", "c01", "full") for length in (16, 32, 64)}
    assert profile.lengths == (16, 32, 48, 64, 128)
    for configuration, row in zip(model.configurations, profile.window_ns, strict=True):
        expected = [proportional(model.architecture)(configuration, length) for length in profile.lengths]
        assert row == pytest.approx(expected, rel=1e-3)


def test_a_model_with_the_full_configuration_alone_is_probed() -> None:
    clock = Clock()
    model, engine = slow_model(clock, by_tokens, ratios=())
    assert probe(model, clock_ns=clock).configurations == ("full",)
    assert engine.cells == {("full", length) for length in (16, 32, 64)}


@settings(max_examples=25)
@given(each=st.integers(1, 3 * SECOND), seconds=st.floats(0.001, 5.0))
def test_a_probe_ends_in_time_with_a_profile_however_slow_the_host(each: int, seconds: float) -> None:
    clock = Clock()
    model, engine = slow_model(clock, lambda _configuration, _length: each)
    profile = probe(model, seconds=seconds, clock_ns=clock)
    assert clock.now_ns <= round(seconds * 1e9) + each
    assert engine.order[0] == ("full", 64)
    assert np.array(profile.window_ns) == pytest.approx(each, rel=1e-6)


def test_a_stored_profile_of_the_same_key_is_taken_and_nothing_measured(tmp_path: Path) -> None:
    clock = Clock()
    model, engine = slow_model(clock, by_tokens)
    stored = replace(probe(model, clock_ns=clock), measured="calibrated")
    store_profile(tmp_path, stored)
    engine.order.clear()
    assert profile_for(model, tmp_path, clock_ns=clock) == stored
    assert engine.order == []


@pytest.mark.parametrize("trouble", ["none", "no folder", "another key", "damaged", "other configurations"])
def test_without_a_profile_that_fits_a_probe_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    clock = Clock()
    model, _ = slow_model(clock, by_tokens)
    stored = replace(probe(model, clock_ns=clock), measured="calibrated")
    if trouble == "another key":
        store_profile(tmp_path, replace(stored, key=replace(stored.key, cpu="other"))).rename(
            profile_path(tmp_path, stored.key)
        )
    elif trouble == "damaged":
        profile_path(tmp_path, stored.key).write_bytes(b"{")
    elif trouble == "other configurations":
        store_profile(tmp_path, replace(stored, configurations=("c04", "c03", "c02", "full")))
    with caplog.at_level(logging.WARNING, "leeway"):
        found = profile_for(model, None if trouble == "no folder" else tmp_path, clock_ns=clock)
    assert found.measured == "probed"
    assert len(caplog.records) == (0 if trouble in {"none", "no folder"} else 1)


def test_the_description_is_a_table_in_milliseconds() -> None:
    clock = Clock()
    model, _ = slow_model(clock, by_tokens, ratios=(0.5,))
    lines = describe(calibrate(model, seconds=20, clock_ns=clock))
    assert lines[0].split() == ["ms", "per", "window", "16", "32", "48", "64", "128"]
    assert lines[-1].split() == ["full", "3.00", "5.00", "7.00", "9.00", "17.00"]
    assert len(lines) == 3
