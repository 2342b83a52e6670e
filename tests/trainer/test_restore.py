"""What an artifact gives back to training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_store import ModelStore, Tensors, linear_layers
from tests.trainer.helpers import quantized, random_batch, random_network
from tests.trainer.models import SHAPE, publish
from trainer.cli import app, efforts
from trainer.network import LengthAdaptiveMiniLM
from trainer.pretrained import load_weights
from trainer.quantize import float_tensors, observe
from trainer.restore import RESTORED_FILE, float_weights, restore


@pytest.fixture(scope="module")
def network() -> LengthAdaptiveMiniLM:
    return random_network(SHAPE, seed=4)


@pytest.fixture(params=[0.0, 0.75], ids=["plain", "smoothed"])
def int8(request: pytest.FixtureRequest, network: LengthAdaptiveMiniLM) -> Tensors:
    ranges = observe(network, [random_batch((12, 40, 33), SHAPE, seed=1)])
    return quantized(network, ranges, request.param)


def test_an_artifact_in_float_gives_back_what_it_was_made_of(tmp_path: Path, network: LengthAdaptiveMiniLM) -> None:
    found = float_weights(publish(tmp_path, "float", float_tensors(network), "none"))
    torch.testing.assert_close(found, dict(network.state_dict()), rtol=0.0, atol=0.0)


def test_int8_gives_back_each_weight_within_half_a_level(
    tmp_path: Path, network: LengthAdaptiveMiniLM, int8: Tensors
) -> None:
    found = float_weights(publish(tmp_path, "int8", int8, "int8"))
    for linear in linear_layers(SHAPE):
        name = f"{linear.name}.weight"
        level = int8[f"{linear.name}.weight_scale"][:, None] / int8[f"{linear.name}.input_scale"]
        apart = np.abs(found[name].numpy() - network.get_parameter(name).detach().numpy())
        assert (apart <= 0.5001 * level).all(), name
        assert apart.max() > 0.1 * level.min(), name
    name = "embeddings.word.weight"
    apart = np.abs(found[name].numpy() - network.get_parameter(name).detach().numpy())
    assert (apart <= 0.5001 * int8["embeddings.word.scale"][:, None]).all()
    for name in ("head.weight", "layers.0.output_norm.bias", "embeddings.position.weight"):
        assert torch.equal(found[name], network.get_parameter(name).detach())


def test_what_is_restored_can_be_trained_on_and_says_where_it_is_from(tmp_path: Path, int8: Tensors) -> None:
    artifact = publish(tmp_path / "store", "lost", int8, "int8")
    run = tmp_path / "run"
    arguments = ["restore", str(run), "--store", str(tmp_path / "store"), "--model", "lost"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    weights = run / "restored" / "weights.safetensors"
    assert isinstance(load_weights(weights, SHAPE), LengthAdaptiveMiniLM)
    record = json.loads((run / "restored" / RESTORED_FILE).read_text(encoding="utf-8"))
    assert record == {"restored_from": "lost@1", "digest": artifact.digest}
    assert efforts(run, "restored") == {"restored": record}
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code != 0
    assert "take another --name" in again.output
    with pytest.raises(ValueError, match="there already"):
        restore(run, ModelStore(tmp_path / "store").load("lost"), "restored")
