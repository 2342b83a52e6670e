"""The stages end to end, on the tiny artifact and the fake engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model_store import ModelStore, read_table
from model_store.files import sha256_of
from tests.model_store.tiny_artifact import publish_tiny
from tests.trainer.helpers import EXCERPT, excerpt
from trainer.cli import app
from trainer.data import save_squad
from trainer.search.front import non_dominated
from trainer.search.record import read_record
from trainer.search.running import CONSTANT_RATIOS
from trainer.search.scores import f1_score


@pytest.fixture
def run(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "store")
    folder = tmp_path / "run"
    folder.mkdir()
    save_squad(excerpt(), folder / "held_out.json.gz")
    return folder


def trainer(run: Path, stage: str, *arguments: object, model: str = "tiny@1") -> Result:
    options = ["--store", str(run.parent / "store"), "--model", model, *map(str, arguments)]
    return CliRunner().invoke(app, ["--threads", "1", stage, str(run), *options])


def search(run: Path, *arguments: object) -> Result:
    return trainer(run, "search", "--engine", "fake", "--questions", 6, "--drop", 0.6, *arguments)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "search" / "evaluations.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("searcher", ["evolution", "tpe"])
def test_a_search_is_recorded_and_goes_on_where_it_stopped(
    run: Path, searcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(run, "--searcher", searcher, "--evaluations", 8).exit_code == 0
    whole = lines(run)
    assert len(whole) == 9
    (run / "search" / "evaluations.jsonl").unlink()

    def stopping(*given: Any) -> Any:
        score, left = f1_score(*given), iter([False] * 3)
        return lambda configuration: score(configuration) if next(left, True) is False else interrupt()

    def interrupt() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.search.running.f1_score", stopping)
    stopped = search(run, "--searcher", searcher, "--evaluations", 8)
    assert (stopped.exit_code, len(lines(run))) == (130, 4)
    assert "the same command goes on" in stopped.stdout
    monkeypatch.undo()
    assert search(run, "--searcher", searcher, "--evaluations", 8).exit_code == 0
    assert lines(run) == whole
    assert (run / "search" / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_begins_with_the_frontier_of_another_models(run: Path) -> None:
    assert search(run, "--evaluations", 30).exit_code == 0
    earlier = run / "earlier.jsonl"
    (run / "search" / "evaluations.jsonl").rename(earlier)
    front = [list(each.genes) for each in reversed(non_dominated(read_record(earlier).evaluations))]
    publish_tiny(run.parent / "store", seed=1)
    options = ["--engine", "fake", "--questions", 6, "--drop", 0.6, "--evaluations", 30, "--begin-with", earlier]
    begun = trainer(run, "search", *options, model="tiny@2")
    assert begun.exit_code == 0, begun.output
    settings, *rows = lines(run)
    assert settings["settings"]["begin_with"] == sha256_of(earlier)
    genes = [row["genes"] for row in rows]
    assert max(genes.index(each) for each in front) < CONSTANT_RATIOS + len(front)


def test_a_table_is_frozen_reported_and_published_with_the_same_tensors(run: Path) -> None:
    store = ModelStore(run.parent / "store")
    assert search(run, "--evaluations", 8).exit_code == 0
    made = trainer(run, "table", "--engine", "fake", "--questions", 6)
    assert made.exit_code == 0, made.output
    frozen = (run / "search" / "pareto_table.json").read_bytes()
    table = read_table(run / "search" / "pareto_table.json")
    assert (table.full.held_out_f1_interval is not None, table.full.dev_f1) == (True, None)
    reported = trainer(run, "table", "--engine", "fake", "--questions", 6, "--report-dev", EXCERPT)
    assert "dev F1" in reported.stdout
    assert (run / "search" / "pareto_table.json").read_bytes() == frozen
    assert trainer(run, "publish-table").exit_code == 0
    old, new = store.load("tiny@1"), store.load("tiny@2")
    assert new.table.full.dev_f1 is not None
    assert old.manifest.files["model.safetensors"] == new.manifest.files["model.safetensors"]
    facts = new.manifest.metrics["pareto_table"]
    assert isinstance(facts, dict)
    assert (facts["searched_on"], facts["evaluations"]) == (old.digest, 8)
    assert new.manifest.metrics["held_out"] == old.manifest.metrics["held_out"]
    assert store.verify("tiny@2") == []


def test_what_int8_costs_is_compared_at_every_point_on_held_out_questions(run: Path) -> None:
    publish_tiny(run.parent / "store", name="float", scheme="none")
    assert search(run, "--evaluations", 8).exit_code == 0
    assert trainer(run, "table", "--engine", "fake", "--questions", 6).exit_code == 0
    done = trainer(run, "compare-float", "--engine", "openvino", "--float-engine", "reference", "--questions", 6)
    assert done.exit_code == 0, done.output
    found = json.loads((run / "search" / "int8_loss.json").read_text())
    table = read_table(run / "search" / "pareto_table.json")
    assert [row["id"] for row in found["points"]] == [point.id for point in table.points]
    assert found["questions"] == 6
    assert (found["engine"], found["float_engine"]) == ("openvino", "reference")
    assert "int8 loses" in done.stdout
    refused = trainer(run, "compare-float", "--float-model", "tiny@1")
    assert "no float twin" in refused.stderr


def test_cost_in_time_is_measured_through_the_engine(run: Path) -> None:
    assert search(run, "--cost", "time", "--evaluations", 3).exit_code == 0
    rows = lines(run)
    assert (rows[0]["settings"]["cost"], rows[1]["cost"], len(rows)) == ("time", 1.0, 4)


def test_a_record_says_which_tokens_are_exempt_and_one_without_any_is_as_before(run: Path) -> None:
    assert search(run, "--evaluations", 2).exit_code == 0
    assert lines(run)[0]["settings"]["exempt_tokens"] == 16
    assert "exempt_tokens: 16 there, None here" in search(run, "--evaluations", 2, "--exempt-tokens", 0).stderr
    (run / "search" / "evaluations.jsonl").unlink()
    assert search(run, "--evaluations", 2, "--exempt-tokens", 0).exit_code == 0
    assert "exempt_tokens" not in lines(run)[0]["settings"]


def test_stages_say_in_one_line_what_is_wrong(run: Path) -> None:
    def fails(done: Result, *words: str) -> None:
        assert done.exit_code == 1, done.output
        (line,) = done.stderr.strip().splitlines()
        assert all(word in line for word in words), line

    fails(search(run, "--cost", "money"), "trainer search: ", "the costs are macs, time")
    fails(search(run, "--exempt-tokens", 12), "steps of 8")
    fails(search(run, "--begin-with", run / "nothing.jsonl"), "nothing.jsonl")
    fails(search(run, "--searcher", "luck"), "the searchers are evolution, tpe")
    fails(trainer(run, "table"), "evaluations.jsonl")
    fails(trainer(run, "publish-table"), "no table is frozen")
    fails(trainer(run, "search", "--engine", "abacus"), "abacus")
    assert search(run, "--evaluations", 4).exit_code == 0  # what failed before left nothing behind
    assert "seed: 0 there, 1 here" in search(run, "--evaluations", 4, "--seed", 1).stderr
    publish_tiny(run.parent / "store", seed=1)
    fails(trainer(run, "table", "--engine", "fake", model="tiny@2"), "another artifact")
    assert trainer(run, "table", "--engine", "fake", "--questions", 6).exit_code == 0
    fails(trainer(run, "publish-table", model="tiny@2"), "another artifact than tiny@2")
