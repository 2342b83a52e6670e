from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.helpers import random_features, random_network
from trainer import tensor_files
from trainer.finetune import Finetuner, FinetuneSettings, NotFiniteError, learning_rate_at, make_optimizer
from trainer.network import LengthAdaptiveMiniLM

FEATURES = random_features(40)
F32 = FinetuneSettings(epochs=3, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9)


def tuner(folder: Path, settings: FinetuneSettings = F32, seed: int = 0) -> Finetuner:
    """As a new process would begin or resume: from the same starting weights."""
    return Finetuner(random_network(seed=seed, scale=0.1), FEATURES, folder, settings)


def checkpoint(folder: Path) -> dict[str, Tensor]:
    """Weights and moments, as they are on disk."""
    files = ("weights", "optimizer")
    return {f"{file} {k}": v for file in files for k, v in load_file(folder / f"checkpoint/{file}.safetensors").items()}


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Bit for bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def steps(folder: Path) -> list[dict[str, Any]]:
    """The log, every line of it one JSON document."""
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def without_time(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit(tmp_path: Path, precision: str) -> None:
    settings = replace(F32, precision=precision)
    assert tuner(tmp_path / "whole", settings).run() == 15
    for stop_after in (4, 7, None):  # inside an epoch, and over the end of one
        resumed = tuner(tmp_path / "parts", settings, seed=99)  # what it starts from must not matter later
        if resumed.step == 0:
            resumed = tuner(tmp_path / "parts", settings)
        resumed.run(stop_after)
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert any("exp_avg_sq" in name for name in whole)
    assert same(whole, parts)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert without_time(steps(tmp_path / "whole")) == without_time(steps(tmp_path / "parts"))
    assert [line["step"] for line in steps(tmp_path / "parts")] == list(range(1, 16))


def test_a_run_that_is_done_stays_as_it_is(tmp_path: Path) -> None:
    tuner(tmp_path).run()
    before = checkpoint(tmp_path)
    assert tuner(tmp_path).run() == 15
    assert same(before, checkpoint(tmp_path))
    assert len(steps(tmp_path)) == 15


def test_the_log_of_a_run_killed_after_its_checkpoint_has_each_step_once(tmp_path: Path) -> None:
    tuner(tmp_path / "whole").run()
    tuner(tmp_path / "killed").run(5)
    log = tmp_path / "killed" / "steps.jsonl"
    later = "".join(json.dumps({"step": step, "loss": -1.0, "seconds": 1.0}) + "\n" for step in (6, 7))
    log.write_text(log.read_text(encoding="utf-8") + later + '{"step": 8, "lo', encoding="utf-8")  # the last one torn
    tuner(tmp_path / "killed").run()
    assert without_time(steps(tmp_path / "killed")) == without_time(steps(tmp_path / "whole"))


def test_a_run_killed_before_its_first_checkpoint_logs_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text('{"step": 1, "loss": 1.0, "seconds": 1.0}\n', encoding="utf-8")
    tuner(tmp_path).run(2)
    assert [line["step"] for line in steps(tmp_path)] == [1, 2]
    assert steps(tmp_path)[0]["windows"] == 8


@pytest.mark.parametrize("half_new", [False, True])
def test_a_run_killed_between_the_two_renames_resumes_and_saves_again(tmp_path: Path, half_new: bool) -> None:  # noqa: FBT001
    tuner(tmp_path / "whole").run()
    folder = tmp_path / "killed"
    tuner(folder).run(5)
    (folder / "checkpoint").rename(folder / "checkpoint.old")
    if half_new:
        (folder / "checkpoint.new").mkdir()
        (folder / "checkpoint.new" / "weights.safetensors").write_bytes(b"half of it")
    resumed = tuner(folder)
    assert resumed.step == 5
    resumed.run()
    assert same(checkpoint(folder), checkpoint(tmp_path / "whole"))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "steps.jsonl"]


def test_the_only_checkpoint_is_not_removed_before_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner(tmp_path).run(5)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    resumed = tuner(tmp_path)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        resumed.save()
    monkeypatch.undo()
    assert tuner(tmp_path).step == 5


def test_other_settings_are_refused_with_the_names_of_what_differs(tmp_path: Path) -> None:
    tuner(tmp_path).run(1)
    with pytest.raises(ValueError, match=r"other settings \(batch_size: 8 there, 4 here, seed: 1 there, 2 here\)"):
        tuner(tmp_path, replace(F32, batch_size=4, seed=2))
    with pytest.raises(ValueError, match="windows: 40 there, 30 here"):
        Finetuner(random_network(), random_features(30), tmp_path, F32)


def test_how_often_a_checkpoint_is_written_may_change(tmp_path: Path) -> None:
    tuner(tmp_path).run(1)
    assert tuner(tmp_path, replace(F32, checkpoint_minutes=0.0)).run(3) == 3


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_loss_falls(tmp_path: Path, precision: str) -> None:
    settings = FinetuneSettings(epochs=6, batch_size=8, learning_rate=1e-2, precision=precision, warm_up=0.1)
    tuner(tmp_path, settings).run()
    losses = [line["loss"] for line in steps(tmp_path)]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_every_step_is_one_line_of_the_log(tmp_path: Path) -> None:
    tuner(tmp_path).run()
    lines = steps(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 16))
    assert sum(line["windows"] for line in lines[:5]) == 40
    assert sum(line["tokens"] for line in lines[:5]) == len(FEATURES.token_ids)
    assert [lines[4]["epoch"], lines[14]["epoch"]] == [1.0, 3.0]
    assert {"loss", "gradient_norm", "learning_rate", "seconds"} <= lines[0].keys()
    assert lines[7]["learning_rate"] == learning_rate_at(7, 15, F32)


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    settings = FinetuneSettings(learning_rate=1.0, warm_up=0.2)
    rates = [learning_rate_at(step, 10, settings) for step in range(11)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0])
    assert learning_rate_at(0, 1, settings) == 1.0


def test_epochs_may_be_fractional(tmp_path: Path) -> None:
    assert tuner(tmp_path / "half", replace(F32, epochs=0.5)).steps == 2
    assert tuner(tmp_path / "little", replace(F32, epochs=1e-6)).steps == 1


def test_matrices_decay_and_vectors_do_not() -> None:
    network = random_network()
    optimizer = make_optimizer(network, 0.1)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(parameter) for parameter in network.parameters() if parameter.ndim == 2}


def break_weights(network: LengthAdaptiveMiniLM) -> None:
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint_whole(tmp_path: Path) -> None:
    tuner(tmp_path).run(5)
    before = checkpoint(tmp_path)
    diverging = tuner(tmp_path)
    break_weights(diverging.working.network)
    with pytest.raises(NotFiniteError, match="step 5: loss nan"):
        diverging.run()
    assert same(before, checkpoint(tmp_path))
    assert len(steps(tmp_path)) == 5
    assert tuner(tmp_path).run() == 15


def disk_full(tensors: Mapping[str, Tensor], path: Path, metadata: object = None) -> None:
    path.write_bytes(b"the beginning")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner(tmp_path).run(5)
    before = checkpoint(tmp_path)
    monkeypatch.setattr(tensor_files, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        tuner(tmp_path).run(8)
    assert same(before, checkpoint(tmp_path))
    monkeypatch.undo()
    assert tuner(tmp_path).step == 5
    tuner(tmp_path).run()
    assert [line["step"] for line in steps(tmp_path)] == list(range(1, 16))


def test_the_error_of_the_library_that_writes_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.safetensors cannot be written"):
        tensor_files.write_file({"a": torch.zeros(1)}, tmp_path / "no folder" / "a.safetensors")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    tuner(tmp_path).run(1)
    path = tmp_path / "checkpoint" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"optimizer\.safetensors is damaged"):
        tuner(tmp_path)
