from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, processors
from typer.testing import CliRunner, Result

from model_store import ModelStore
from tests.trainer.helpers import EXCERPT
from tests.trainer.teacher_fakes import HIDDEN, FakeEncoder, tiny_bert, word_pieces
from trainer import stages
from trainer.cli import app
from trainer.features import Features
from trainer.grids import GRIDS_FILE, load_grids
from trainer.pretrained import load_weights, run_architecture
from trainer.quantize import int8_tensors
from trainer.teacher import TeacherNetwork
from trainer.teacher_logits import TeacherLogits
from trainer.teacher_pieces import PieceMap
from trainer.tensor_files import digest
from trainer.tiny import TinyConfig


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["--threads", "1", *(str(argument) for argument in arguments)])


def done(*arguments: object) -> str:
    result = trainer(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    done("tiny-base", folder, "--data", EXCERPT)
    return folder


@pytest.fixture
def run(tmp_path: Path, base: Path) -> Path:
    """A run that is prepared and fine-tuned for two steps."""
    run = tmp_path / "run"
    done("prepare", run, "--data", EXCERPT, "--base", base, "--held-out-share", 0.1)
    done("finetune", run, "--base", base, "--epochs", 0.5, "--batch-size", 16, "--precision", "f32", "--device", "cpu")
    return run


def fake_load(folder: Path, our_tokenizer: Path, seed: int) -> TeacherNetwork:
    """In place of what needs transformers: our own pieces, framed as BERT does."""
    ours = Tokenizer.from_file(str(our_tokenizer))
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoder = FakeEncoder(theirs.get_vocab_size(), seed, dropout=0.1)
    return TeacherNetwork(encoder, HIDDEN, PieceMap(ours, theirs, pad=0), types=False, seed=seed)


@pytest.fixture
def teacher(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "teacher-base"
    folder.mkdir()
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    specials = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=specials
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    monkeypatch.setattr(stages, "load_teacher", fake_load)
    return folder


def progress(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "checkpoint/progress.json").read_text(encoding="utf-8"))["settings"]
    return settings


def test_from_a_teacher_to_a_published_adapted_model_with_a_stop_on_the_way(
    tmp_path: Path, run: Path, base: Path, teacher: Path
) -> None:
    teach = ("teach", run, "--base", base, "--teacher", teacher, "--epochs", 0.7, "--batch-size", 16)
    assert "stopped after step 1 of 2" in done(*teach, "--stop-after", 1)
    assert "2 steps done" in done(*teach)
    assert "windows in" in done("teacher-logits", run, "--base", base, "--teacher", teacher)
    logits = run / "teacher" / "logits.npy"
    features = Features.load(run / "features.npz")
    assert np.isfinite(TeacherLogits.open(logits, features).padded(np.arange(2), 400)).all()

    adapt = ("adapt", run, "--base", base, "--teacher", logits, "--epochs", 1, "--batch-size", 16, "--share", 0.5)
    assert "stopped after step 1 of 2" in done(*adapt, "--stop-after", 1)
    assert "2 steps done" in done(*adapt)
    settings = progress(run / "adapted")
    assert re.fullmatch("[0-9a-f]{16}", settings["start"])
    assert re.fullmatch("[0-9a-f]{16}", settings["teacher"])

    store = tmp_path / "store"
    export = ("export", run, "--base", base, "--store", store, "--name", "tiny", "--scheme", "none")
    done(*export, "--weights-of", "adapted")
    artifact = ModelStore(store).load("tiny@1")
    training: dict[str, Any] = dict(artifact.manifest.training)
    assert training["adapted"]["drop_probability"] == 0.4
    assert training["finetuning"]["steps"] == 2
    adapted = load_file(run / "adapted" / "weights.safetensors")
    np.testing.assert_array_equal(artifact.load_tensors()["head.weight"], adapted["head.weight"].numpy())


def test_adaptations_of_one_run_stand_side_by_side(run: Path, base: Path) -> None:
    common = ("adapt", run, "--base", base, "--epochs", 0.3, "--batch-size", 16, "--precision", "f32")
    done(*common, "--name", "ablations/reverse", "--direction", "reverse")
    done(*common, "--name", "ablations/protected", "--protect", "question", "--layer-drop", 0.2, "--layer-drop-full")
    weights = [load_file(run / f"ablations/{name}/weights.safetensors") for name in ("reverse", "protected")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert progress(run / "ablations/protected")["layer_drop_full"] is True


def test_fine_tuning_starts_from_a_base_that_learned_a_teachers_relations(
    tmp_path: Path, run: Path, base: Path
) -> None:
    wider = tiny_bert(tmp_path / "wider", base / "tokenizer.json", TinyConfig(hidden_size=48, num_attention_heads=3))
    relate = ("relate", run, "--base", base, "--teacher", wider, "--epochs", 0.7, "--batch-size", 16)
    refused = trainer(*relate)
    assert refused.exit_code == 1
    assert "must divide the teacher's width 48 and the student's 32, and 48 does not" in refused.stderr
    assert not (run / "related").exists()
    assert "stopped after step 1 of 2" in done(*relate, "--relation-heads", 16, "--stop-after", 1)
    assert "2 steps done" in done(*relate, "--relation-heads", 16)
    assert re.fullmatch("[0-9a-f]{16}", progress(run / "related")["teacher"])

    start = run / "related" / "weights.safetensors"
    finetune = ("finetune", run, "--base", base, "--start", start, "--name", "from-related", "--batch-size", 16)
    assert "stopped after step 1" in done(*finetune, "--stop-after", 1)


def test_quantization_aware_weights_are_published_on_the_grids_that_they_were_trained_on(
    tmp_path: Path, run: Path, base: Path
) -> None:
    calibration = ("--quantization-aware", "--calibration-drop", 0.4, "--calibration-windows", 4)
    steps = ("--epochs", 1, "--batch-size", 16, "--share", 0.5)
    adapt = ("adapt", run, "--base", base, "--name", "aware", *calibration, *steps)
    assert "stopped after step 1 of 2" in done(*adapt, "--stop-after", 1)
    grids = load_grids(run / "aware" / GRIDS_FILE)
    assert (grids.calibration.drop, grids.calibration.windows) == (0.4, 4)
    assert "2 steps done" in done(*adapt)
    other = trainer(*adapt, "--smoothing", 0.5)
    assert "smoothing: 0.75 there, 0.5 here" in other.stderr

    store = tmp_path / "store"
    common = ("--base", base, "--store", store, "--name", "tiny", "--engine", "reference")
    export = ("export", run, *common, "--weights-of", "aware")
    refused = trainer(*export, "--calibration-drop", 0.2)
    assert "0.2" in refused.stderr
    assert refused.exit_code == other.exit_code == 1
    done(*export)
    artifact = ModelStore(store).load("tiny@1")
    network = load_weights(run / "aware" / "weights.safetensors", run_architecture(run, base))
    expected = int8_tensors(network, grids.inputs)
    assert all((tensor == expected[name]).all() for name, tensor in artifact.load_tensors().items())
    details: dict[str, Any] = dict(artifact.manifest.quantization.details)
    assert details["quantization_aware_training"] is True
    assert (details["calibration"]["windows"], details["calibration"]["drop_probability"]) == (4, 0.4)
    assert details["calibration"]["weights"].startswith(progress(run / "aware")["start"])
    training: dict[str, Any] = dict(artifact.manifest.training)
    assert training["aware"]["grids"] == digest(run / "aware" / GRIDS_FILE)
    assert "quantization-aware training" in (artifact.path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_what_the_user_can_mend_is_said_in_one_line(
    tmp_path: Path, run: Path, base: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def refused(*arguments: object) -> str:
        result = trainer(*arguments)
        assert result.exit_code == 1
        assert len(result.stderr.strip().splitlines()) == 1
        return str(result.stderr)

    assert "sees no GPU" in refused("adapt", run, "--base", base, "--device", "cuda")
    assert "none, special, question" in refused("adapt", run, "--base", base, "--protect", "verbs")
    assert "none.safetensors" in refused("adapt", run, "--base", base, "--start", tmp_path / "none.safetensors")
    assert "weights.safetensors" in refused("teacher-logits", run, "--base", base, "--teacher", teacher)
    other = word_pieces({"[UNK]": 0, "a": 1, "<s>": 2, "</s>": 3})
    other.post_processor = Tokenizer.from_file(str(teacher / "tokenizer.json")).post_processor
    other.save(str(teacher / "tokenizer.json"))
    assert "other word pieces" in refused("teach", run, "--base", base, "--teacher", teacher)
