from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from tests.trainer.helpers import random_batch, random_features, random_network
from tests.trainer.teacher_fakes import FakeEncoder, fake_teacher, tiny_bert
from trainer.network import Batch
from trainer.pretrained import load_pretrained
from trainer.relate import Relater, RelateSettings, TeacherProjections, find_projections
from trainer.relations import relation_loss
from trainer.teacher import TeacherNetwork, load_teacher

FEATURES = random_features(40)
F32 = RelateSettings(
    epochs=3, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9, relation_heads=8
)
WIDTH = 24
SIZES = {"vocab_size": 60, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2}


def teacher() -> TeacherNetwork:
    """A tiny random MPNet, with dropout, wider than the student."""
    pieces = fake_teacher().pieces
    torch.manual_seed(5)
    config = transformers.MPNetConfig(**SIZES, num_attention_heads=3, hidden_dropout_prob=0.5, initializer_range=0.5)
    return TeacherNetwork(transformers.MPNetModel(config), WIDTH, pieces, types=False, seed=0)


def relater(folder: Path, settings: RelateSettings = F32, seed: int = 0) -> Relater:
    """As a new process would begin or resume: from the same starting weights."""
    return Relater(random_network(seed=seed, scale=0.1), teacher(), FEATURES, folder, settings)


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit(tmp_path: Path, precision: str) -> None:
    settings = replace(F32, precision=precision)
    assert relater(tmp_path / "whole", settings).run() == 15
    relater(tmp_path / "parts", settings).run(4)
    torch.manual_seed(123)
    assert relater(tmp_path / "parts", settings, seed=9).run() == 15
    for file in ("weights", "optimizer"):
        whole, parts = (load_file(tmp_path / name / f"checkpoint/{file}.safetensors") for name in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert steps(tmp_path / "whole") == steps(tmp_path / "parts")


def test_a_student_learns_the_relations_and_nothing_behind_them_changes(tmp_path: Path) -> None:
    before = random_network(scale=0.1).state_dict()
    run = relater(tmp_path, replace(F32, epochs=20, learning_rate=3e-2))
    run.run()
    lines = steps(tmp_path)
    assert sum(line["loss"] for line in lines[-5:]) < 0.7 * sum(line["loss"] for line in lines[:5])
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][name] for name in ("query", "key", "value")), abs=1e-4)
    after = run.network.state_dict()
    behind = ("head.", "layers.2.attention", "layers.2.intermediate", "layers.2.output")
    assert {name for name in before if torch.equal(before[name], after[name])} == {
        name for name in before if name.startswith(behind)
    }


def test_the_gradients_are_those_of_the_sum_of_the_three_losses(tmp_path: Path) -> None:
    run = relater(tmp_path)
    indices = run._indices(0)
    run._gradients(indices)
    found = {name: one.grad for name, one in run.network.named_parameters() if one.grad is not None}
    plain = random_network(scale=0.1)
    batch = run._collate(indices).inputs
    pairs = zip(TeacherProjections(teacher().eval())(batch), plain.last_projections(batch), strict=True)
    losses = [relation_loss(theirs, ours, batch.lengths, F32.relation_heads) for theirs, ours in pairs]
    torch.autograd.backward(torch.stack(losses).sum())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found.get(name), parameter.grad)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_teacher_with_the_students_weights_has_its_projections_layer_by_layer(tmp_path: Path, layer: int) -> None:
    folder = tiny_bert(tmp_path)
    student = load_pretrained(str(folder), seed=0)
    student.layers = student.layers[: layer or None]
    batch = separated(random_batch([30, 11], student.architecture))
    theirs = TeacherProjections(load_teacher(folder, folder / "tokenizer.json", 0).eval(), layer)(batch)
    for wanted, got in zip(theirs, student.last_projections(batch), strict=True):
        torch.testing.assert_close(wanted[batch.real], got[batch.real])
        assert relation_loss(wanted, got, batch.lengths, heads=16).item() == pytest.approx(0.0, abs=1e-6)


def separated(batch: Batch) -> Batch:
    """With tiny-base's [CLS] and [SEP] where a teacher puts its own."""
    batch.token_ids[:, 0] = 2
    batch.token_ids.scatter_(1, batch.segment_starts[:, None] - 1, 3)
    return batch


@pytest.mark.parametrize(
    ("family", "sizes", "path"),
    [
        ("Bert", SIZES, "encoder.layer.{}.attention.self.query"),
        ("Electra", SIZES | {"embedding_size": 8}, "encoder.layer.{}.attention.self.query"),
        ("MPNet", SIZES, "encoder.layer.{}.attention.attn.q"),
        ("DistilBert", {"vocab_size": 60, "dim": WIDTH, "n_layers": 2}, "transformer.layer.{}.attention.q_lin"),
    ],
)
def test_projections_are_found_in_encoders_of_transformers(family: str, sizes: dict[str, int], path: str) -> None:
    heads = {"n_heads": 3} if "dim" in sizes else {"num_attention_heads": 3}
    encoder: nn.Module = getattr(transformers, f"{family}Model")(
        getattr(transformers, f"{family}Config")(**sizes, **heads)
    )
    for layer, place in ((0, 1), (1, 0), (2, 1)):
        assert find_projections(encoder, layer)[0] is encoder.get_submodule(path.format(place))
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=f"has 2 layers .* was layer {layer} "):
            find_projections(encoder, layer)


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 0 layers with queries, keys and values"):
        find_projections(FakeEncoder(60), 0)
    with pytest.raises(ValueError, match="the teacher's width 24 and the student's 16, and 12 does not"):
        relater(tmp_path, replace(F32, relation_heads=12))
    foreign = replace(FEATURES, token_ids=FEATURES.token_ids.copy())
    foreign.token_ids[5] = 0
    with pytest.raises(ValueError, match=r"lacks 1 of our word pieces, among them '\[PAD\]'"):
        Relater(random_network(), teacher(), foreign, tmp_path, F32)
    assert not list(tmp_path.iterdir())
