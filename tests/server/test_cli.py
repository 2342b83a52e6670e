"""The command ``leeway``: what it prints, and how it fails."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.calibration import CalibrationError
from server.cli import app
from server.profiles import load_profile
from server.routing.profile import ProfileKey
from tests.model_store.tiny_artifact import publish_tiny

CONTEXT = "The old tower was built by the king in 1900. The river is new."
QUESTION = "Who built the tower?"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    publish_tiny(root)
    publish_tiny(root, seed=1)
    return root


@pytest.fixture
def context_file(tmp_path: Path) -> str:
    path = tmp_path / "context.txt"
    path.write_text(CONTEXT, encoding="utf-8")
    return str(path)


def squad(questions: int = 6) -> bytes:
    """A SQuAD-format file; half of the articles have two questions."""
    articles = []
    for number in range(questions):
        answers = [{"text": "the king", "answer_start": CONTEXT.index("the king")}]
        asked = [{"id": f"q{number}", "question": QUESTION, "answers": answers}]
        articles.append({"title": f"t{number}", "paragraphs": [{"context": CONTEXT, "qas": asked}]})
    return json.dumps({"version": "1.1", "data": articles}).encode()


def leeway(*arguments: str, store: Path | None = None, stdin: bytes | None = None) -> Result:
    """Run the command on the tiny model with the fake engine."""
    env = {"LEEWAY_ENGINE": "fake", "LEEWAY_MODEL": "tiny"}
    if store is not None:
        env["LEEWAY_STORE"] = str(store)
    return CliRunner().invoke(app, arguments, env=env, input=stdin)


def fails(result: Result, *words: str) -> None:
    """One line on stderr that has `words`, status 1, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("leeway: ")
    for word in words:
        assert word in line


def test_ask_prints_an_answer_from_the_context(store: Path, context_file: str) -> None:
    result = leeway("ask", QUESTION, "--context-file", context_file, store=store)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() in CONTEXT


def test_ask_prints_json_and_reads_stdin(store: Path) -> None:
    result = leeway(
        "ask", QUESTION, "--context-file", "-", "--json", "--top-k", "2", store=store, stdin=CONTEXT.encode()
    )
    document = json.loads(result.stdout)
    assert len(document["answers"]) == 2
    for answer in document["answers"]:
        assert answer["text"] == CONTEXT[answer["start"] : answer["end"]]
    assert (document["model"], document["length_config"]) == ("tiny@2", "full")


def test_ask_says_what_is_wrong(store: Path, context_file: str, tmp_path: Path) -> None:
    fails(leeway("ask", QUESTION, "--context-file", "nowhere.txt", store=store), "nowhere.txt", "No such file")
    fails(leeway("ask", QUESTION, "--context-file", str(tmp_path), store=store), "directory")
    fails(leeway("ask", " ", "--context-file", context_file, store=store), "question is blank")
    fails(leeway("ask", QUESTION, "--context-file", "-", store=store, stdin=b"\xff"), "UTF-8")
    fails(leeway("ask", QUESTION, "--context-file", "-", store=store, stdin=b" \n"), "context is blank")
    fails(leeway("ask", QUESTION, "--context-file", context_file, "--model", "none", store=store), "none")
    fails(leeway("ask", QUESTION, "--context-file", context_file, store=tmp_path / "no"), "tiny")
    fails(
        leeway(
            "ask", QUESTION, "--context-file", context_file, "--engine", "reference", "--precision", "bf16", store=store
        ),
        "f32 only",
    )


def test_a_wrong_option_value_is_a_usage_error(store: Path) -> None:
    assert leeway("serve", "--port", "70000", store=store).exit_code == 2
    assert leeway("serve", "--engine", "gpu", store=store).exit_code == 2
    assert leeway("serve", "--no-such-option", store=store).exit_code == 2


def test_evaluate_ends_with_one_json_document(store: Path, tmp_path: Path) -> None:
    data, predictions = tmp_path / "data.json", tmp_path / "predictions.json"
    data.write_bytes(squad())
    result = leeway("evaluate", "--data", str(data), "--predictions", str(predictions), store=store)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert set(report) == {
        *("exact_match", "f1", "questions", "questions_per_second", "engine", "length_config", "model"),
    }
    assert (report["questions"], report["engine"], report["length_config"]) == (6, "fake", "full")
    assert 0 <= report["exact_match"] <= report["f1"] <= 100
    written = json.loads(predictions.read_text())
    assert sorted(written) == [f"q{number}" for number in range(6)]
    assert all(text in CONTEXT for text in written.values())


def test_evaluate_takes_a_seeded_sample_of_a_compressed_file_under_a_configuration(store: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json.gz"
    data.write_bytes(gzip.compress(squad(20)))
    arguments = ["evaluate", "--data", str(data), "--limit", "5", "--seed", "3", "--config", "c01"]
    chosen = []
    for name in ("first.json", "second.json"):
        result = leeway(*arguments, "--predictions", str(tmp_path / name), store=store)
        report = json.loads(result.stdout.splitlines()[-1])
        assert (report["questions"], report["length_config"]) == (5, "c01")
        chosen.append(json.loads((tmp_path / name).read_text()))
    assert chosen[0] == chosen[1]


def test_evaluate_under_all_configurations_ends_with_one_document_cheapest_first(store: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_bytes(squad())
    result = leeway("evaluate", "--data", str(data), "--config", "all", "--limit", "4", store=store)
    assert result.exit_code == 0, result.output
    points = json.loads(result.stdout.splitlines()[-1])["points"]
    assert [point["length_config"] for point in points] == ["c01", "full"]
    assert points[0]["macs"] < points[1]["macs"]
    for share in ("macs_share", "mean_macs_share"):
        assert (points[0][share] < 1.0, points[1][share]) == (True, 1.0)
    for point in points:
        assert 0 <= point["exact_match"] <= point["f1"] <= 100
        assert (point["questions"], point["model"], point["engine"]) == (4, "tiny@2", "fake")
    answers = str(tmp_path / "p.json")
    refused = leeway("evaluate", "--data", str(data), "--config", "all", "--predictions", answers, store=store)
    fails(refused, "one length configuration")
    fails(leeway("evaluate", "--data", str(data), "--config", "all", "--model", "none", store=store), "none")


def test_evaluate_says_what_is_wrong(store: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_bytes(squad())
    bad.write_text("{")
    fails(leeway("evaluate", "--data", "nowhere.json", store=store), "nowhere.json")
    fails(leeway("evaluate", "--data", str(bad), store=store), "bad.json")
    fails(leeway("evaluate", "--data", str(good), "--config", "c09", store=store), "c09", "c01, full")
    fails(leeway("evaluate", "--data", str(good), "--predictions", str(tmp_path / "no" / "p.json"), store=store), "no")


def test_calibrate_keeps_a_profile_and_ends_with_one_json_document(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "profiles"
    result = leeway("calibrate", "--seconds", "5", "--profile-dir", str(folder), "--threads", "3", store=store)
    assert result.exit_code == 0, result.output
    *table, last = result.stdout.splitlines()
    assert [line.split()[0] for line in table] == ["ms", "c01", "full"]
    document = json.loads(last)
    assert set(document) == {"path", "key", "seconds", "cells"}
    assert document["cells"] == 2 * 4  # 16, 32 and 48 tokens, and 64 positions
    assert (document["key"]["engine"], document["key"]["threads"]) == ("fake", 3)
    profile = load_profile(folder, ProfileKey(**document["key"]))
    assert profile is not None
    assert profile.measured == "calibrated"
    assert list(folder.iterdir()) == [Path(document["path"])]


def test_calibrate_measures_every_engine_under_auto_and_leaves_out_what_cannot_run(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.choosing.installed_engines", lambda: ("fake", "reference", "tensorrt"))
    given = ("calibrate", "--seconds", "5", "--threads", "1", "--engine", "auto", "--profile-dir", str(tmp_path / "p"))
    result = leeway(*given, store=store)
    assert result.exit_code == 0, result.output
    assert "left out" in result.stderr
    assert "tensorrt" in result.stderr
    fastest = json.loads(result.stdout.splitlines()[-1])
    (other,) = fastest["others"]
    assert {fastest["key"]["engine"], other["key"]["engine"]} == {"fake", "reference"}
    assert {fastest["path"], other["path"]} == {str(path) for path in (tmp_path / "p").iterdir()}
    monkeypatch.setattr("server.choosing.installed_engines", lambda: ("tensorrt", "triton"))
    none = leeway(*given, store=store)
    assert none.exit_code == 1
    assert none.stderr.splitlines()[-1] == "leeway: none of the installed engines runs here"


def test_calibrate_says_what_is_wrong(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    fails(leeway("calibrate", "--profile-dir", str(tmp_path / "file"), store=store), "cannot keep", "file")
    fails(leeway("calibrate", "--profile-dir", str(tmp_path), "--model", "none", store=store), "none")
    assert leeway("calibrate", "--seconds", "0", store=store).exit_code == 2

    def too_short(*_: object, **__: object) -> None:
        raise CalibrationError("too short")

    monkeypatch.setattr("server.calibration.calibrate", too_short)
    fails(leeway("calibrate", "--profile-dir", str(tmp_path), store=store), "too short")
    assert [path.name for path in tmp_path.glob("*profile*")] == []


def test_models_are_listed(store: Path) -> None:
    assert leeway("models", "list", store=store).stdout.split() == ["tiny@1", "tiny@2", "latest"]
    listed = json.loads(leeway("models", "list", "--json", store=store).stdout)
    assert listed[1] == {"name": "tiny", "version": 2, "latest": True}
    assert leeway("models", "list", "--store", str(store)).exit_code == 0


def test_a_sound_model_is_verified_and_a_damaged_one_named(store: Path) -> None:
    assert "tiny@2 is sound" in leeway("models", "verify", "tiny", store=store).stdout
    card = store / "tiny" / "2" / "MODEL_CARD.md"
    card.chmod(0o644)
    card.write_text("# tony\n")
    result = leeway("models", "verify", "tiny@2", store=store)
    assert result.exit_code == 1
    assert "DigestMismatchError" in result.stderr
    assert leeway("models", "verify", "tiny@1", store=store).exit_code == 0


def test_a_rollback_makes_the_version_before_the_latest(store: Path) -> None:
    assert "tiny@1 is now the latest" in leeway("models", "rollback", "tiny", store=store).stdout
    fails(leeway("models", "rollback", "tiny", store=store), "no version before 1")


def test_models_say_what_is_wrong(store: Path) -> None:
    fails(leeway("models", "list", store=store / "nothing"), "no model store")
    fails(leeway("models", "verify", "nobody", store=store), "nobody")
    fails(leeway("models", "verify", "../tiny", store=store), "tiny")
    fails(leeway("models", "rollback", "nobody", store=store), "nobody")
