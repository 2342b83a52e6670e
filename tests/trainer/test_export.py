from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store import Licence, ModelStore, ModelStoreError, StoredVersion, full_configuration, write_tensors
from model_store.errors import PathOutsideStoreError, StoreFullError
from reading import TextTokenizer
from server.engine import create_engine
from server.engine.interface import EngineUnavailableError
from tests.trainer.helpers import excerpt
from trainer import export as module
from trainer.data import hold_out, labelled_questions
from trainer.evaluation import evaluate_questions
from trainer.export import ExportInputs, ExportSettings, export
from trainer.features import make_features
from trainer.grids import ActivationCalibration
from trainer.pretrained import load_pretrained
from trainer.tiny import TinyConfig, write_tiny_checkpoint

SETTINGS = ExportSettings(calibration=ActivationCalibration(windows=12), engine="reference", threads=1)
QUICK = TinyConfig(num_hidden_layers=2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ExportInputs:
    folder: Path = tmp_path_factory.mktemp("base")
    write_tiny_checkpoint(folder, excerpt(), seed=1, config=QUICK)
    training, held_out = hold_out(excerpt(), 0.2)
    return ExportInputs(
        network=load_pretrained(str(folder), seed=1),
        features=make_features(labelled_questions(training), TextTokenizer.from_file(folder / "tokenizer.json")),
        tokenizer=folder / "tokenizer.json",
        held_out=list(held_out)[:6],
        dev=(),
        training={"base": "tiny"},
        licences=(Licence("weights", "Apache-2.0", "the authors of this project"),),
    )


def f1_again(store: ModelStore, published: StoredVersion, inputs: ExportInputs) -> tuple[float, float]:
    artifact = store.load(published.spec)
    engine = create_engine("reference", artifact, threads=1)
    scores = evaluate_questions(artifact, [engine], full_configuration(2), inputs.held_out)
    return round(100 * float(np.mean(scores.f1)), 2), round(100 * float(np.mean(scores.exact_match)), 2)


@pytest.mark.parametrize("scheme", ["int8", "none"])
def test_the_figures_of_an_artifact_are_those_of_the_artifact(
    inputs: ExportInputs, tmp_path: Path, scheme: str
) -> None:
    store = ModelStore(tmp_path / "store")
    published = export(inputs, replace(SETTINGS, scheme=scheme), store, "tiny", tmp_path / "drafts")
    artifact = store.load(published.spec)
    figures: Any = artifact.manifest.metrics["held_out"]
    assert (figures["f1"], figures["exact_match"]) == f1_again(store, published, inputs)
    assert figures["questions"] == 6
    assert artifact.table.full.held_out_f1 == figures["f1"]
    assert artifact.table.full.dev_f1 is None
    assert artifact.manifest.quantization.scheme == scheme
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_dev_figures_stand_beside_and_are_for_the_report(inputs: ExportInputs, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    published = export(replace(inputs, dev=inputs.held_out[:2]), SETTINGS, store, "tiny", tmp_path / "drafts")
    artifact = store.load(published.spec)
    figures: Any = artifact.manifest.metrics["squad_dev_1_1"]
    assert figures["questions"] == 2
    assert artifact.table.full.dev_f1 == figures["f1"]


def test_calibration_is_a_function_of_its_seed(inputs: ExportInputs) -> None:
    drawn = (ActivationCalibration(windows=12, seed=seed) for seed in (3, 3, 4))
    first, again, other = (module.make_tensors(inputs, replace(SETTINGS, calibration=how)) for how in drawn)
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first if name.endswith("input_scale"))


def broken_measurement(*args: object) -> None:
    raise EngineUnavailableError("the engine is gone")


def full_disk(*args: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("name", "failure", "error"),
    [
        ("_measure", broken_measurement, EngineUnavailableError),
        ("write_tensors", full_disk, StoreFullError),
        ("model_card", full_disk, StoreFullError),
    ],
)
def test_a_failure_leaves_neither_half_a_version_nor_drafts(
    inputs: ExportInputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failure: Callable[..., None],
    error: type[Exception],
) -> None:
    store = ModelStore(tmp_path / "store")
    monkeypatch.setattr(module, name, failure)
    with pytest.raises(error):
        export(inputs, SETTINGS, store, "tiny", tmp_path / "drafts")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "drafts").exists()
    monkeypatch.undo()
    assert export(inputs, SETTINGS, store, "tiny", tmp_path / "drafts").version == 1


def test_a_failure_while_the_measured_version_is_written_publishes_nothing(
    inputs: ExportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = write_tensors, []

    def second_fails(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            full_disk()
        write(*args)

    monkeypatch.setattr(module, "write_tensors", second_fails)
    with pytest.raises(StoreFullError, match="no space left"):
        export(inputs, SETTINGS, ModelStore(tmp_path / "store"), "tiny", tmp_path / "drafts")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_name_that_the_store_refuses_is_refused(inputs: ExportInputs, tmp_path: Path) -> None:
    with pytest.raises(PathOutsideStoreError):
        export(inputs, SETTINGS, ModelStore(tmp_path / "store"), "../tiny", tmp_path / "drafts")


def test_an_unknown_scheme_is_refused(inputs: ExportInputs, tmp_path: Path) -> None:
    with pytest.raises((ModelStoreError, ValueError), match="int4"):
        export(inputs, replace(SETTINGS, scheme="int4"), ModelStore(tmp_path / "store"), "tiny", tmp_path / "drafts")
