from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_store import LengthConfiguration, Tensors, full_configuration, linear_layers
from server.engine.reference import ReferenceEngine
from tests.trainer.helpers import SMALL, kept_of, one_of, random_batch, random_features, random_network
from trainer.adapt import Adapter, AdaptSettings
from trainer.batches import collate, epoch_order
from trainer.grids import ActivationCalibration, calibrate
from trainer.losses import marginal_span_loss
from trainer.network import LengthAdaptiveMiniLM
from trainer.quantization_aware import QuantizedCopy, fake_quantized, fake_quantized_rows
from trainer.quantize import InputGrid, input_grids, int8_tensors, observe, quantize_rows
from trainer.sandwich import divergence

LINEARS = [layer.name for layer in linear_layers(SMALL)]
FEATURES = random_features(40)
SETTINGS = AdaptSettings(epochs=3, batch_size=8, learning_rate=1e-3, precision="f32", checkpoint_minutes=1e9)
DROPPING = LengthConfiguration("c01", (0.9, 0.6, 0.3))


def grids_of(network: LengthAdaptiveMiniLM, smoothing: float = 0.75) -> dict[str, InputGrid]:
    ranges = observe(network, [random_batch((9, 40, 17, 33), seed=1), random_batch((5, 64), seed=2)])
    return input_grids(network, ranges, smoothing)


def reference(tensors: Tensors) -> ReferenceEngine:
    manifest = SimpleNamespace(architecture=SMALL, quantization=SimpleNamespace(scheme="int8"))
    made: Any = SimpleNamespace(manifest=manifest, load_tensors=lambda: tensors)
    return ReferenceEngine(made, threads=1)


def test_values_come_to_lie_on_the_nearest_level_and_on_the_even_one_of_two() -> None:
    # in steps of 0.5: -4, -1.5, -0.5, 0.5, 0.6, 1.5, 3, 3.4, 3.6, 18; the levels are -2 to 3
    values = torch.tensor([-2.0, -0.75, -0.25, 0.25, 0.3, 0.75, 1.5, 1.7, 1.8, 9.0])
    expected = [-1.0, -1.0, 0.0, 0.0, 0.5, 1.0, 1.5, 1.5, 1.5, 1.5]
    assert fake_quantized(values, torch.tensor([0.5]), -2, 3).tolist() == expected
    assert fake_quantized(values.bfloat16(), torch.tensor([0.5]), -2, 3).dtype == torch.bfloat16


def test_every_channel_may_have_its_own_step() -> None:
    found = fake_quantized(torch.tensor([[1.1, 1.1], [-9.0, -9.0]]), torch.tensor([0.5, 2.0]), -3, 3)
    assert found.tolist() == [[1.0, 2.0], [-1.5, -6.0]]  # 2.2 -> 2 and 0.55 -> 1; -18 -> -3 and -4.5 -> -3


def test_the_gradient_goes_through_the_rounding_and_stops_beyond_the_levels() -> None:
    # 1.7 is 3.4 steps and rounds to the last level, 1.8 is 3.6 and would round to the one that is not there
    values = torch.tensor([-2.0, -1.2, -0.75, 0.3, 1.5, 1.7, 1.8, 9.0], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    torch.autograd.backward((fake_quantized(values, torch.tensor([0.5]), -2, 3) * weights).sum())
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]


def test_rows_are_rounded_to_their_own_127th_parts() -> None:
    matrix = torch.tensor([[1.0, -0.5, 0.004], [0.0, 0.0, 0.0], [0.02, -2.54, 0.5]], requires_grad=True)
    found = fake_quantized_rows(matrix)
    # in steps of 1/127: 127, -63.5 (to the even -64), 0.508; in steps of 0.02: 1, -127, 25
    expected = [[1.0, -64 / 127, 1 / 127], [0.0, 0.0, 0.0], [0.02, -2.54, 0.5]]
    torch.testing.assert_close(found, torch.tensor(expected))
    torch.autograd.backward(found.sum())
    assert matrix.grad is not None
    assert (matrix.grad == 1.0).all()  # nothing is beyond a range that its own extreme sets


def test_rows_are_those_of_the_export_to_the_bit() -> None:
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    rows, scale = quantize_rows(matrix.numpy())
    assert (fake_quantized_rows(matrix).numpy() == rows * scale[:, None]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.75])
@pytest.mark.parametrize("name", LINEARS)
def test_a_linear_layer_computes_what_the_integers_of_the_reference_do(name: str, smoothing: float) -> None:
    network = random_network()
    grids = grids_of(network, smoothing)
    working = QuantizedCopy(network, torch.float32, grids).network
    step = torch.from_numpy(grids[name].scale)
    width = network.get_submodule(name).in_features
    inputs = torch.randn(50, int(width), generator=torch.Generator().manual_seed(3)) * step * 120  # type: ignore[arg-type]
    levels = (inputs / step).round() + grids[name].zero_point
    assert bool((levels < 0).any() | (levels > 255).any())  # some are beyond the range
    found = working.get_submodule(name)(inputs)
    expected = reference(int8_tensors(network, grids))._linear(name, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("configuration", [full_configuration(SMALL.layers), DROPPING], ids=lambda one: str(one.id))
def test_what_is_trained_computes_what_will_be_published(configuration: LengthConfiguration) -> None:
    network = random_network(scale=0.2)
    grids = grids_of(network)
    batch = random_batch((9, 40, 17, 33), seed=1)  # with no activation on the edge between two levels
    with torch.inference_mode():
        starts, ends = QuantizedCopy(network, torch.float32, grids).network(batch, kept_of(configuration, batch))
    engine = reference(int8_tensors(network, grids))
    for row in range(4):
        alone = one_of(batch, row)
        tokens: Any = SimpleNamespace(
            token_ids=alone.token_ids[0].numpy().astype(np.int32), segment_start=int(alone.segment_starts[0])
        )
        expected = engine.run([tokens], configuration).logits[0]
        length = int(batch.lengths[row])
        np.testing.assert_allclose(starts[row, :length], expected.start, atol=1e-3)
        np.testing.assert_allclose(ends[row, :length], expected.end, atol=1e-3)


def test_gradients_reach_the_masters_as_those_of_the_rounded_inputs() -> None:
    network = random_network()
    name, grids = "layers.0.intermediate", grids_of(network, 0.0)
    copy = QuantizedCopy(network, torch.float32, grids)
    inputs = torch.randn(7, SMALL.hidden, generator=torch.Generator().manual_seed(3))
    torch.autograd.backward(copy.network.get_submodule(name)(inputs).sum())
    copy.pull_gradients()
    gradient = network.get_parameter(f"{name}.weight").grad
    grid = grids[name]
    rounded = fake_quantized(inputs, torch.from_numpy(grid.scale), -grid.zero_point, 255 - grid.zero_point)
    assert gradient is not None
    torch.testing.assert_close(gradient, rounded.sum(0).expand_as(gradient))  # y = W x, so dy/dW is x for every row


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_master_gets_a_float32_gradient_and_is_rounded_again_when_it_changed(dtype: torch.dtype) -> None:
    network, batch = random_network(scale=0.2), random_batch((20, 14))
    copy = QuantizedCopy(network, dtype, grids_of(network))
    before = copy.network(batch)[0].detach()
    torch.autograd.backward(copy.network(batch)[0][:, :14].square().sum())
    copy.pull_gradients()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients.values())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.9)
    copy.refresh()
    again = QuantizedCopy(network, dtype, grids_of(random_network(scale=0.2)))
    assert not torch.equal(copy.network(batch)[0], before)
    assert torch.equal(copy.network(batch)[0], again.network(batch)[0])


def test_the_master_stays_a_plain_network() -> None:
    network, batch = random_network(), random_batch((20, 14))
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        logits = network(batch)
        quantized = QuantizedCopy(network, torch.float32, grids_of(network)).network(batch)
        assert torch.equal(network(batch)[0], logits[0])
    assert not torch.equal(quantized[0], logits[0])
    assert all(torch.equal(tensor, plain[name]) for name, tensor in network.state_dict().items())


def adapter(folder: Path, settings: AdaptSettings, seed: int, grids: dict[str, InputGrid] | None) -> Adapter:
    return Adapter(random_network(seed=seed, scale=0.1), FEATURES, folder, settings, grids=grids)


def checkpoint(folder: Path) -> dict[str, Tensor]:
    files = ("weights", "optimizer")
    return {f"{file} {k}": v for file in files for k, v in load_file(folder / f"checkpoint/{file}.safetensors").items()}


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_stopped_and_resumed_run_equals_an_unstopped_one_bit_for_bit(tmp_path: Path, precision: str) -> None:
    settings = replace(SETTINGS, precision=precision, layer_drop=0.2, grids="a")
    found = calibrate(random_network(scale=0.1), FEATURES, ActivationCalibration(12, 0.4))
    grids = dict(found.inputs)
    assert adapter(tmp_path / "whole", settings, 0, grids).run() == 15
    adapter(tmp_path / "parts", settings, 0, grids).run(5)
    adapter(tmp_path / "parts", settings, 99, grids).run()
    adapter(tmp_path / "plain", replace(settings, grids=""), 0, None).run()
    whole, parts, plain = (checkpoint(tmp_path / name) for name in ("whole", "parts", "plain"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)
    with pytest.raises(ValueError, match="grids: 'a' there, 'b' here"):
        adapter(tmp_path / "whole", replace(settings, grids="b"), 0, grids)


def test_every_pass_of_a_step_computes_on_the_levels(tmp_path: Path) -> None:
    grids = grids_of(random_network(scale=0.1))
    loop = adapter(tmp_path, SETTINGS, 0, grids)
    loop.run(1)
    logged = json.loads((tmp_path / "steps.jsonl").read_text(encoding="utf-8"))
    batch = collate(FEATURES, epoch_order(FEATURES.lengths, 8, SETTINGS.seed, 0)[0], 0)
    with torch.no_grad():
        working = QuantizedCopy(random_network(scale=0.1), torch.float32, grids).network
        full, *others = [working(batch.inputs, one.kept) for one in loop.drop.sub_models(batch.inputs, 0)]
    span = marginal_span_loss(full[0], full[1], batch.starts, batch.ends).item()
    smallest, *random = [divergence(full, other).item() for other in others]
    assert (logged["full"], logged["smallest"]) == pytest.approx((span, smallest), abs=2e-5)
    assert logged["random"] == pytest.approx(random, abs=2e-5)
