from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer.helpers import SMALL, excerpt, random_batch, random_network
from trainer.network import Layer
from trainer.pretrained import load_pretrained, load_weights, read_architecture, resolve_checkpoint, save_weights
from trainer.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    write_tiny_checkpoint(folder, excerpt(), seed=1)
    return folder


@pytest.fixture
def checkpoint(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def test_query_key_and_value_become_the_rows_of_one_matrix(written: Path) -> None:
    source = load_file(written / "model.safetensors")
    network = load_pretrained(str(written), seed=0)
    for place, layer in enumerate(network.layers):
        assert isinstance(layer, Layer)
        rows = layer.qkv.weight.detach().chunk(3)
        for part, found in zip(("query", "key", "value"), rows, strict=True):
            assert torch.equal(found, source[f"encoder.layer.{place}.attention.self.{part}.weight"])


def test_every_other_tensor_lands_under_its_own_name(checkpoint: Path) -> None:
    def numbered(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: torch.full_like(source[name], place) for place, name in enumerate(sorted(source))}

    change_tensors(checkpoint, numbered)
    source = load_file(checkpoint / "model.safetensors")
    state = load_pretrained(str(checkpoint), seed=0).state_dict()
    pairs = {
        "embeddings.word.weight": "embeddings.word_embeddings.weight",
        "embeddings.position.weight": "embeddings.position_embeddings.weight",
        "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
        "embeddings.norm.bias": "embeddings.LayerNorm.bias",
        "layers.1.attention_output.weight": "encoder.layer.1.attention.output.dense.weight",
        "layers.1.attention_norm.weight": "encoder.layer.1.attention.output.LayerNorm.weight",
        "layers.2.intermediate.bias": "encoder.layer.2.intermediate.dense.bias",
        "layers.2.output.weight": "encoder.layer.2.output.dense.weight",
        "layers.0.output_norm.bias": "encoder.layer.0.output.LayerNorm.bias",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(state[ours], source[theirs]), ours


def test_names_may_carry_the_prefix_of_a_model_with_a_head(checkpoint: Path, written: Path) -> None:
    change_tensors(checkpoint, lambda source: {f"bert.{name}": tensor for name, tensor in source.items()})
    plain, prefixed = (load_pretrained(str(folder), seed=3).state_dict() for folder in (written, checkpoint))
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)


def test_a_head_is_taken_where_there_is_one_and_drawn_by_the_seed_where_not(checkpoint: Path, written: Path) -> None:
    drawn = [load_pretrained(str(written), seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    head = {"qa_outputs.weight": torch.full((2, 32), 0.5), "qa_outputs.bias": torch.tensor([1.0, 2.0])}
    change_tensors(checkpoint, lambda source: source | head)
    network = load_pretrained(str(checkpoint), seed=1)
    assert network.head.bias.tolist() == [1.0, 2.0]
    assert (network.head.weight == 0.5).all()


def test_weights_of_half_precision_are_trained_in_single(checkpoint: Path) -> None:
    change_tensors(checkpoint, lambda source: {name: tensor.half() for name, tensor in source.items()})
    assert {tensor.dtype for tensor in load_pretrained(str(checkpoint), 0).state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", ["encoder.layer.1.attention.self.key.bias", "embeddings.LayerNorm.weight"])
def test_a_missing_tensor_is_named(checkpoint: Path, name: str) -> None:
    def without(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del source[name]
        return source

    change_tensors(checkpoint, without)
    with pytest.raises(ValueError, match=f"lacks the tensor '{name}'"):
        load_pretrained(str(checkpoint), 0)


def test_a_checkpoint_of_another_kind_is_refused(checkpoint: Path) -> None:
    change_tensors(checkpoint, lambda source: {"wte.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="no BERT word embeddings"):
        load_pretrained(str(checkpoint), 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "roberta"), ("hidden_act", "gelu_new"), ("position_embedding_type", "relative_key")],
)
def test_a_network_that_computes_otherwise_is_refused(checkpoint: Path, key: str, value: str) -> None:
    change_config(checkpoint, **{key: value})
    with pytest.raises(ValueError, match=f"{key} is '{value}'"):
        read_architecture(checkpoint)


def test_a_size_that_the_configuration_lacks_is_named(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json lacks 'num_hidden_layers'"):
        read_architecture(checkpoint)


def test_tensors_that_do_not_fit_the_configuration_are_refused(checkpoint: Path) -> None:
    change_config(checkpoint, intermediate_size=48)
    with pytest.raises(ValueError, match=r"does not fit its own config\.json"):
        load_pretrained(str(checkpoint), 0)


def test_a_damaged_checkpoint_is_named(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_pretrained(str(checkpoint), 0)


def test_a_name_that_is_no_folder_and_unknown_to_the_hub_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> str:
        raise ConnectionError("cannot reach the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="'some/model' is no local folder, and the hub gave: cannot reach"):
        resolve_checkpoint("some/model")


def test_weights_come_back_bit_for_bit_and_nothing_else_is_left(tmp_path: Path) -> None:
    network = random_network()
    save_weights(network, tmp_path / "weights.safetensors")
    loaded = load_weights(tmp_path / "weights.safetensors", SMALL).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_weights(torch.nn.Linear(2, 2), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="does not hold a network of"):
        load_weights(tmp_path / "weights.safetensors", SMALL)


def test_a_tiny_checkpoint_is_a_function_of_its_seed(written: Path, tmp_path: Path) -> None:
    for seed, same in ((1, True), (2, False)):
        write_tiny_checkpoint(tmp_path / str(seed), excerpt(), seed)
        name = "model.safetensors"
        assert ((tmp_path / str(seed) / name).read_bytes() == (written / name).read_bytes()) is same


@pytest.mark.parametrize("kind", ["learned", "bilinear"])
def test_a_significance_that_was_never_taught_is_0_for_every_token(tmp_path: Path, kind: str) -> None:
    save_weights(random_network(seed=3), tmp_path / "weights.safetensors")
    network = load_weights(tmp_path / "weights.safetensors", replace(SMALL, significance=kind))
    scores: list[Tensor] = []
    network(random_batch((9, 12)), scores=scores)
    assert len(scores) == SMALL.layers
    assert all((each == 0).all() for each in scores)


def test_a_bilinear_significance_begins_as_the_learned_one_whose_weights_it_gets(tmp_path: Path) -> None:
    taught = random_network(replace(SMALL, significance="learned"), seed=3)
    save_weights(taught, tmp_path / "weights.safetensors")
    network = load_weights(tmp_path / "weights.safetensors", replace(SMALL, significance="bilinear")).eval()
    scores: list[list[Tensor]] = [[], []]
    for each, found in zip((taught, network), scores, strict=True):
        each(random_batch((9, 12)), scores=found)
    torch.testing.assert_close(scores[1], scores[0])
