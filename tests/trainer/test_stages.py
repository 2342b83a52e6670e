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
from trainer.teacher import TeacherNetwork
from trainer.teacher_logits import TeacherLogits
from trainer.teacher_pieces import PieceMap
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
