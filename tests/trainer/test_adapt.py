from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.helpers import SMALL, random_features, random_network
from trainer.adapt import Adapter, AdaptSettings, subset
from trainer.batches import collate
from trainer.length_drop import scaled_counts, smallest_path
from trainer.network import LengthAdaptiveMiniLM
from trainer.sandwich import divergence
from trainer.teacher_logits import TeacherLogits
from trainer.tensor_files import digest

FEATURES = random_features(40)
F32 = AdaptSettings(epochs=3, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9)
HARD = replace(F32, layer_drop=0.2, protect="question", direction="reverse", share=0.8)


def random_teacher() -> TeacherLogits:
    values = np.random.default_rng(5).normal(size=(len(FEATURES.token_ids), 2)).astype(np.float16)
    return TeacherLogits(FEATURES, values)


def knowing_teacher() -> TeacherLogits:
    """Certain of the right places."""
    values = np.zeros((len(FEATURES.token_ids), 2), dtype=np.float16)
    values[FEATURES.token_ids == 7] = 12.0
    return TeacherLogits(FEATURES, values)


def adapter(
    folder: Path, settings: AdaptSettings = F32, seed: int = 0, teacher: TeacherLogits | None = None
) -> Adapter:
    return Adapter(random_network(seed=seed, scale=0.1), FEATURES, folder, settings, teacher=teacher)


def checkpoint(folder: Path) -> dict[str, Tensor]:
    files = ("weights", "optimizer")
    return {f"{file} {k}": v for file in files for k, v in load_file(folder / f"checkpoint/{file}.safetensors").items()}


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit(tmp_path: Path, precision: str) -> None:
    settings = replace(HARD, precision=precision)
    assert adapter(tmp_path / "whole", settings, teacher=random_teacher()).run() == 12
    adapter(tmp_path / "parts", settings, teacher=random_teacher()).run(5)
    adapter(tmp_path / "parts", settings, seed=99, teacher=random_teacher()).run()
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert steps(tmp_path / "whole") == steps(tmp_path / "parts")


@pytest.mark.parametrize("kind", ["learned", "bilinear"])
def test_a_trained_significance_finds_the_answers(tmp_path: Path, kind: str) -> None:
    network = random_network(replace(SMALL, significance=kind), scale=0.1)
    loop = Adapter(network, FEATURES, tmp_path, replace(F32, epochs=12, keeping_weight=1.0))
    loop.run()
    lines = steps(tmp_path)
    assert lines[-1]["keeping"] < 0.7 * lines[0]["keeping"]
    scores: list[Tensor] = []
    batch = collate(FEATURES, np.arange(len(FEATURES)), 0)
    with torch.inference_mode():
        network(batch.inputs, scores=scores)
    assert len(scores) == SMALL.layers
    others = batch.inputs.real & ~batch.inside & (torch.arange(scores[-1].shape[1]) > 0)
    assert scores[-1][batch.inside].mean() > scores[-1][others].mean() + 1.0


def test_every_pass_has_its_loss_in_the_log(tmp_path: Path) -> None:
    adapter(tmp_path, replace(F32, random_passes=3)).run(4)
    lines = steps(tmp_path)
    assert list(lines[0])[:7] == ["step", "epoch", "loss", "span", "full", "smallest", "random"]
    for line in lines:
        assert len(line["random"]) == 3
        mean = (line["full"] + line["smallest"] + sum(line["random"])) / 5
        assert line["loss"] == pytest.approx(mean, abs=2e-5)
        assert line["full"] == line["span"]  # there is no teacher
    assert {"gradient_norm", "learning_rate", "windows", "tokens"} <= lines[0].keys()


def smallest_divergence(network: LengthAdaptiveMiniLM) -> float:
    """How far the smallest sub-model's answers are from the full model's."""
    batch = collate(FEATURES, np.arange(len(FEATURES)), 0).inputs
    path = smallest_path(int(batch.lengths.max()), SMALL.layers, F32.drop_probability)
    network = network.eval()
    with torch.no_grad():
        return divergence(network(batch), network(batch, scaled_counts(path, batch.lengths))).item()


def trained(folder: Path, settings: AdaptSettings, teacher: TeacherLogits | None = None) -> LengthAdaptiveMiniLM:
    loop = adapter(folder, settings, teacher=teacher)
    loop.run()
    assert isinstance(loop.network, LengthAdaptiveMiniLM)
    return loop.network


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_sub_models_come_to_answer_as_the_full_model_does(tmp_path: Path, direction: str) -> None:
    plain = replace(F32, epochs=40, learning_rate=5e-3, drop_probability=0.0, random_passes=0)
    adapting = replace(plain, drop_probability=0.4, random_passes=2, direction=direction)
    without, with_ = trained(tmp_path / "plain", plain), trained(tmp_path / "adapting", adapting)
    assert smallest_divergence(with_) < 0.5 * smallest_divergence(without)
    losses = [line["span"] for line in steps(tmp_path / "adapting")]
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])


def test_a_teacher_alone_teaches_where_the_answers_stand(tmp_path: Path) -> None:
    settings = replace(F32, epochs=40, learning_rate=5e-3, teacher_weight=1.0, temperature=1.0)
    trained(tmp_path, settings, knowing_teacher())
    losses = [line["span"] for line in steps(tmp_path)]  # logged, but of no weight
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    assert [line["full"] for line in steps(tmp_path)] != losses


def test_a_teacher_without_weight_changes_nothing(tmp_path: Path) -> None:
    settings = replace(F32, teacher_weight=0.0)
    trained(tmp_path / "with", settings, random_teacher())
    trained(tmp_path / "without", settings)
    assert steps(tmp_path / "with") == steps(tmp_path / "without")


def test_the_subset_is_whole_questions_drawn_by_the_seed() -> None:
    two_windows_each = replace(FEATURES, questions=np.repeat(np.arange(20), 2).astype(np.int32))
    windows = subset(two_windows_each, 0.25, seed=1)
    assert len(windows) == 10
    assert len(np.unique(two_windows_each.questions[windows])) == 5
    assert windows.tolist() == subset(two_windows_each, 0.25, seed=1).tolist()
    assert windows.tolist() != subset(two_windows_each, 0.25, seed=2).tolist()
    assert subset(FEATURES, 1.0, seed=1).tolist() == list(range(40))
    assert len(subset(FEATURES, 1e-6, seed=1)) == 1


def test_an_epoch_of_a_subset_is_its_windows_alone(tmp_path: Path) -> None:
    loop = adapter(tmp_path, replace(F32, share=0.5, epochs=1))
    assert loop.run() == 3
    assert sum(line["windows"] for line in steps(tmp_path)) == 20
    assert sum(line["tokens"] for line in steps(tmp_path)) == FEATURES.lengths[subset(FEATURES, 0.5, 1)].sum()


def test_a_run_from_other_weights_or_with_another_teacher_is_another_run(tmp_path: Path) -> None:
    adapter(tmp_path, replace(F32, start="a", teacher="b")).run(1)
    with pytest.raises(ValueError, match="start: 'a' there, 'x' here, teacher: 'b' there, '' here"):
        adapter(tmp_path, replace(F32, start="x"))


def test_a_digest_tells_files_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"1")
    assert digest(tmp_path / "empty") == "e3b0c44298fc1c14"
    assert digest(tmp_path / "other") != digest(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "sideways"}, "forward, reverse"),
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"share": 0.0}, "share"),
        ({"drop_probability": 1.0}, "probability"),
        ({"protect": "all"}, "protect"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(F32, **change)
