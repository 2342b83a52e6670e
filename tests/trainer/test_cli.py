from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model_store import ModelStore
from tests.trainer.helpers import EXCERPT
from trainer.cli import app


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["--threads", "1", *map(str, arguments)])


def data_file(path: Path) -> Path:
    """Four questions about one text."""
    context = "Ada Lovelace wrote the first program in London in 1843."
    answers = {"who": "Ada Lovelace", "what": "the first program", "where": "London", "when": "1843"}
    questions = [
        {"id": key, "question": f"{key}?", "answers": [{"text": text, "answer_start": context.index(text)}]}
        for key, text in answers.items()
    ]
    content = {"version": "1.1", "data": [{"title": "Ada", "paragraphs": [{"context": context, "qas": questions}]}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_score_gives_the_official_figures_on_its_last_line(tmp_path: Path) -> None:
    predictions = {"who": "ada lovelace!", "what": "first computer program", "where": "Paris"}
    (tmp_path / "p.json").write_text(json.dumps(predictions), encoding="utf-8")
    done = trainer("score", data_file(tmp_path / "d.json"), tmp_path / "p.json")
    assert done.exit_code == 0
    # "the" is no word: (1 + 2 * (2/3 * 1) / (2/3 + 1) + 0 + 0) / 4, and one of four exact
    assert json.loads(done.stdout.splitlines()[-1]) == {"exact_match": 25.0, "f1": 45.0, "questions": 4, "missing": 1}


def one_line(done: Result, *words: str) -> None:
    """The error is one line on stderr that holds all of `words`."""
    assert done.exit_code == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_score_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    data = data_file(tmp_path / "d.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    one_line(trainer("score", tmp_path / "no.json", data), "trainer score: ", "no.json")
    one_line(trainer("score", data, tmp_path / "no.json"), "trainer score: ", "no.json")
    one_line(trainer("score", data, tmp_path / "bad.json"), "bad.json: not JSON at line 1")
    one_line(trainer("score", tmp_path / "list.json", data), "list.json", "must be an object")
    one_line(trainer("score", data, tmp_path / "list.json"), "list.json: predictions must be one JSON object")


def test_debug_shows_where_an_error_comes_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        done = trainer("--debug", "score", tmp_path / "no.json", tmp_path / "no.json")
    assert isinstance(done.exception, FileNotFoundError)


def test_stages_before_their_turn_say_what_is_missing(tmp_path: Path) -> None:
    assert trainer("tiny-base", tmp_path / "base", "--data", EXCERPT).exit_code == 0
    run = tmp_path / "run"
    one_line(trainer("finetune", run, "--base", tmp_path / "base"), "trainer finetune: ", "features.npz")
    one_line(trainer("export", run, "--base", tmp_path / "base", "--store", run), "trainer export: ", "run.json")


def test_help_shows_every_stage() -> None:
    shown = trainer("--help")
    assert shown.exit_code == 0
    for stage in ("tiny-base", "prepare", "finetune", "export", "score"):
        assert re.search(rf"\b{stage}\b", shown.stdout)


def test_all_stages_from_a_file_to_a_published_model_with_a_stop_on_the_way(tmp_path: Path) -> None:
    run, base, store = tmp_path / "run", tmp_path / "base", tmp_path / "store"
    finetune = ("finetune", run, "--base", base, "--epochs", 1, "--batch-size", 16, "--precision", "f32")

    def stage(*arguments: object) -> str:
        done = trainer(*arguments)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    stage("tiny-base", base, "--data", EXCERPT)
    assert "held out" in stage("prepare", run, "--data", EXCERPT, "--base", base, "--held-out-share", 0.1)
    assert "stopped after step 1 of 3" in stage(*finetune, "--stop-after", 1)
    assert "3 steps done" in stage(*finetune)
    shown = stage("export", run, "--base", base, "--store", store, "--name", "tiny", "--calibration-windows", 16)
    manifest = ModelStore(store).load("tiny@1").manifest
    assert json.loads(shown.splitlines()[-1]) == dict(manifest.metrics)
    training: dict[str, Any] = dict(manifest.training)
    assert training["finetuning"]["steps"] == 3
    assert (training["data"], training["base"]) == ("squad-excerpt.json", "base")
    assert sorted(path.name for path in run.iterdir()) == sorted(
        ["features.npz", "held_out.json.gz", "run.json", "checkpoint", "steps.jsonl", "weights.safetensors"]
    )
