from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainer.helpers import random_features, random_network
from trainer.grids import (
    GRIDS_FILE,
    GRIDS_KEY,
    ActivationCalibration,
    Grids,
    calibrate,
    grids_of_run,
    grids_trained_on,
    load_grids,
    save_grids,
)
from trainer.pretrained import save_weights
from trainer.tensor_files import digest, write_file

FEATURES = random_features(20)
HOW = ActivationCalibration(windows=6, drop=0.4, seed=3)


def assert_same(one: Grids, other: Grids) -> None:
    assert (one.calibration, one.start) == (other.calibration, other.start)
    assert one.inputs.keys() == other.inputs.keys()
    for name, grid in one.inputs.items():
        same = other.inputs[name]
        assert (grid.step, grid.zero_point) == (same.step, same.zero_point)
        assert (grid.smooth == same.smooth).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.75])
def test_grids_come_back_to_the_bit(tmp_path: Path, smoothing: float) -> None:
    grids = calibrate(random_network(), FEATURES, replace(HOW, smoothing=smoothing), start="abc")
    save_grids(grids, tmp_path / "run" / GRIDS_FILE)
    assert_same(load_grids(tmp_path / "run" / GRIDS_FILE), grids)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [GRIDS_FILE]


def test_a_run_that_goes_on_keeps_the_grids_that_it_began_with(tmp_path: Path) -> None:
    began = grids_of_run(tmp_path / GRIDS_FILE, random_network(seed=1), FEATURES, HOW, "abc")
    assert_same(began, calibrate(random_network(seed=1), FEATURES, HOW, "abc"))
    assert_same(grids_of_run(tmp_path / GRIDS_FILE, random_network(seed=2), FEATURES, HOW, "abc"), began)


def test_grids_that_were_found_otherwise_are_refused(tmp_path: Path) -> None:
    path = tmp_path / GRIDS_FILE
    grids_of_run(path, random_network(), FEATURES, HOW, "abc")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"drop: 0\.4 there, 0\.3 here, start: 'abc' there, 'x' here"):
        grids_of_run(path, random_network(), FEATURES, replace(HOW, drop=0.3), "x")
    assert path.read_bytes() == before


def test_weights_name_the_grids_that_they_were_trained_on(tmp_path: Path) -> None:
    path, weights = tmp_path / GRIDS_FILE, tmp_path / "weights.safetensors"
    grids = grids_of_run(path, random_network(), FEATURES, HOW, "abc")
    save_weights(random_network(), weights)
    assert grids_trained_on(weights) is None  # they stand beside by chance
    save_weights(random_network(), weights, {GRIDS_KEY: digest(path)})
    found = grids_trained_on(weights)
    assert found is not None
    assert_same(found, grids)
    save_grids(replace(grids, start="x"), path)
    with pytest.raises(ValueError, match="does not hold the grids"):
        grids_trained_on(weights)
    path.unlink()
    with pytest.raises(OSError, match=GRIDS_FILE):
        grids_trained_on(weights)


def test_what_is_no_file_of_grids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / GRIDS_FILE
    write_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds no grids"):
        load_grids(path)
    path.write_bytes(b"{}")
    with pytest.raises(ValueError, match="damaged"):
        load_grids(path)
