from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainer.average import RECORD_FILE, WEIGHTS_FILE, average, mean_weights
from trainer.cli import efforts
from trainer.tensor_files import read_file, write_file

ONE = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[4.0]])}
TWO = {"a": torch.tensor([3.0, 6.0]), "b": torch.tensor([[0.0]])}


def test_the_mean_is_that_of_each_tensor_by_its_share() -> None:
    even = mean_weights([ONE, TWO], [1.0, 1.0])
    assert even["a"].tolist() == [2.0, 4.0]
    assert even["b"].tolist() == [[2.0]]
    assert mean_weights([ONE, TWO], [3.0, 1.0])["a"].tolist() == [1.5, 3.0]


@pytest.mark.parametrize(
    ("parts", "shares", "message"),
    [
        ([], [], "at least one"),
        ([ONE, TWO], [1.0], "one share for each"),
        ([ONE, TWO], [1.0, 0.0], "positive"),
        ([ONE, {"a": TWO["a"]}], [1.0, 1.0], "not of the same network"),
        ([ONE, {**TWO, "a": torch.zeros(3)}], [1.0, 1.0], "not of the same network"),
    ],
)
def test_what_has_no_mean_is_refused(parts: list[dict[str, torch.Tensor]], shares: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_weights(parts, shares)


def test_the_mean_is_written_with_a_record_of_what_it_is_made_of(tmp_path: Path) -> None:
    for name, part in ((".", ONE), ("longer", TWO)):
        (tmp_path / name).mkdir(exist_ok=True)
        write_file(part, tmp_path / name / WEIGHTS_FILE)
    path = average(tmp_path, [".", "longer"], [1.0, 1.0], "averaged")
    assert read_file(path)["a"].tolist() == [2.0, 4.0]
    assert json.loads((path.parent / RECORD_FILE).read_text())["average_of"] == {".": 1.0, "longer": 1.0}
    with pytest.raises(ValueError, match="cannot be written over"):
        average(tmp_path, [".", "longer"], [1.0, 1.0], "longer")


def test_scores_that_only_some_parts_learned_are_the_mean_of_those() -> None:
    name = "layers.0.significance.weight"
    parts = [{"a": torch.tensor([1.0])}] + [{"a": torch.tensor([x]), name: torch.tensor([x])} for x in (2.0, 6.0)]
    mean = mean_weights(parts, [2.0, 3.0, 1.0])
    torch.testing.assert_close(mean, {"a": torch.tensor([14.0 / 6]), name: torch.tensor([3.0])})


def test_a_mean_of_means_says_what_made_each_of_its_parts(tmp_path: Path) -> None:
    for name, part in ((".", ONE), ("longer", TWO), ("learned", TWO)):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
        write_file(part, tmp_path / name / WEIGHTS_FILE)
        (tmp_path / name / "checkpoint" / "progress.json").write_text(
            json.dumps({"step": 7, "settings": {"epochs": 2}})
        )
        (tmp_path / name / "steps.jsonl").write_text('{"seconds": 1800.0}\n{"seconds": 1800.0}\n')
    average(tmp_path, [".", "longer"], [1.0, 1.0], "averaged")
    average(tmp_path, ["averaged", "learned"], [1.0, 2.0], "final")
    trained = {"epochs": 2, "steps": 7, "hours": 1.0}
    assert efforts(tmp_path, "final") == {
        "average_of": {"averaged": 1.0, "learned": 2.0},
        "averaged": {"average_of": {".": 1.0, "longer": 1.0}, "finetuning": trained, "longer": trained},
        "learned": trained,
    }
