from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.helpers import one_of, random_batch, random_features
from tests.trainer.teacher_fakes import HIDDEN, OURS, FakeEncoder, fake_teacher, mpnet_like, word_pieces
from trainer.network import PADDING_LOGIT
from trainer.teacher import Teacher, TeacherRunner, TeachSettings, load_teacher

FEATURES = random_features(40)
F32 = TeachSettings(epochs=3, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9)


def teacher(folder: Path, settings: TeachSettings = F32, seed: int = 0) -> Teacher:
    return Teacher(fake_teacher(seed, dropout=0.2), FEATURES, folder, settings)


def test_logits_stand_at_our_tokens_whatever_the_padding() -> None:
    network = fake_teacher().eval()
    batch = random_batch([20, 9])
    batch.token_ids.clamp_(min=4)
    starts, ends = network(batch)
    assert starts.shape == ends.shape == (2, 20)
    assert bool((starts[1, 9:] == PADDING_LOGIT).all())
    alone = network(one_of(batch, 1))
    torch.testing.assert_close(starts[1:, :9], alone[0])
    torch.testing.assert_close(ends[1:, :9], alone[1])


def test_a_token_has_the_logits_of_its_own_hidden_state() -> None:
    network = fake_teacher().eval()
    batch = random_batch([20])
    batch.token_ids.clamp_(min=4)
    with torch.no_grad():
        network.encoder.mixing.weight.zero_()  # type: ignore[union-attr, operator]  # hidden states of words alone
        network.encoder.mixing.bias.zero_()  # type: ignore[union-attr, operator]
        first = network(batch)[0][0]
        changed = replace(batch, token_ids=batch.token_ids.clone())
        for place in (2, 12):  # in the question, and in the context behind the second separator
            changed.token_ids[0, place] = 4 if int(batch.token_ids[0, place]) != 4 else 5
        second = network(changed)[0][0]
    assert (first != second).nonzero().flatten().tolist() == [2, 12]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit_dropout_included(
    tmp_path: Path, precision: str
) -> None:
    settings = replace(F32, precision=precision)
    teacher(tmp_path / "whole", settings).run()
    teacher(tmp_path / "parts", settings).run(4)
    torch.manual_seed(123)
    assert teacher(tmp_path / "parts", settings, seed=9).run() == 15
    whole, parts = (load_file(tmp_path / name / "checkpoint/weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_teacher_learns(tmp_path: Path) -> None:
    teacher(tmp_path, replace(F32, epochs=20, learning_rate=3e-2)).run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_windows_with_pieces_that_the_teacher_lacks_are_refused_before_training(tmp_path: Path) -> None:
    foreign = replace(FEATURES, token_ids=FEATURES.token_ids.copy())
    foreign.token_ids[5] = 0  # padding is no token
    with pytest.raises(ValueError, match=r"lacks 1 of our word pieces, among them '\[PAD\]'"):
        Teacher(fake_teacher(), foreign, tmp_path, F32)


def test_a_runner_gives_the_networks_logits() -> None:
    network = fake_teacher().eval()
    batch = random_batch([20, 9])
    batch.token_ids.clamp_(min=4)
    cpu = torch.device("cpu")
    exact = TeacherRunner(network, cpu, torch.float32)(batch)
    torch.testing.assert_close(exact, network(batch))
    low = TeacherRunner(network, cpu, torch.bfloat16)(batch)
    assert low[0].dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.05, atol=0.05)


def test_without_transformers_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="the extra 'train' installs"):
        load_teacher(tmp_path, tmp_path / "tokenizer.json", 0)


def test_an_encoder_of_transformers_is_loaded_without_its_pooler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded(FakeEncoder):
        def __init__(self) -> None:
            super().__init__(mpnet_like().get_vocab_size())
            self.pooler = torch.nn.Linear(2, 2)
            self.config = SimpleNamespace(hidden_size=HIDDEN)

    library = ModuleType("transformers")
    library.AutoModel = SimpleNamespace(from_pretrained=lambda folder, dtype: Loaded())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", library)
    (tmp_path / "config.json").write_text('{"pad_token_id": 1}', encoding="utf-8")
    mpnet_like().save(str(tmp_path / "tokenizer.json"))
    word_pieces(OURS).save(str(tmp_path / "ours.json"))
    network = load_teacher(tmp_path, tmp_path / "ours.json", 0)
    assert not any("pooler" in name for name in network.state_dict())
    assert not network.types
    assert network.pieces.framing.pad == 1
