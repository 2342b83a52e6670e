from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_store import Tensors, linear_layers, validate_tensors
from tests.trainer.helpers import SMALL, one_of, quantized, random_batch, random_network
from trainer.length_drop import LengthDrop
from trainer.network import Batch
from trainer.quantize import ActivationRange, float_tensors, observe, quantize_rows

LINEARS = [layer.name for layer in linear_layers(SMALL)]
LENGTHS = (9, 40, 17, 33)


@pytest.fixture(scope="module")
def ranges() -> dict[str, ActivationRange]:
    return observe(random_network(), [random_batch(LENGTHS, seed=1), random_batch((5, 64), seed=2)])


def matrix(seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.0, 1.0, (40, 30)) * rng.uniform(1e-4, 10.0, (40, 1))
    return np.asarray(rows, dtype=np.float32)


def test_rows_are_symmetric_and_use_the_whole_range() -> None:
    rows, scale = quantize_rows(matrix())
    assert (str(rows.dtype), str(scale.dtype)) == ("int8", "float32")
    assert np.abs(rows.astype(int)).max(axis=1).tolist() == [127] * 40  # -128 never, 127 in every row
    flipped, same_scale = quantize_rows(-matrix())
    assert (flipped == -rows).all()
    assert (same_scale == scale).all()


def test_rounding_errs_by_half_a_step_at_most() -> None:
    rows, scale = quantize_rows(matrix())
    error = np.abs(rows.astype(np.float64) * scale[:, None] - matrix())
    assert (error <= scale[:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero_with_a_positive_scale() -> None:
    rows, scale = quantize_rows(np.zeros((2, 3), dtype=np.float32))
    assert not rows.any()
    assert (scale > 0).all()


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(-1.0, 1.0, 128), (0.5, 2.0, 0), (-2.0, -0.5, 255), (-0.1, 5.0, 5), (0.0, 0.0, 0)]
)
def test_zero_is_exactly_on_a_level_whatever_the_range(low: float, high: float, zero: int) -> None:
    network = random_network()
    extremes = {
        layer.name: ActivationRange(
            np.full(layer.inputs, low, dtype=np.float32), np.full(layer.inputs, high, dtype=np.float32)
        )
        for layer in linear_layers(SMALL)
    }
    tensors = quantized(network, extremes, 0.0)
    assert int(tensors[f"{LINEARS[0]}.input_zero_point"][0]) == zero
    step = float(tensors[f"{LINEARS[0]}.input_scale"][0])
    # every value of the range is within a step of a level: half of rounding, half of moving zero to a level
    for value in (min(low, 0.0), max(high, 0.0)):
        level = np.clip(np.rint(value / step) + zero, 0, 255) - zero
        assert abs(level * step - value) <= 0.51 * step


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
def test_int8_tensors_are_those_of_the_format(ranges: dict[str, ActivationRange], smoothing: float) -> None:
    tensors = quantized(random_network(), ranges, smoothing)
    validate_tensors(tensors, SMALL, "int8")
    assert tensors[f"{LINEARS[0]}.input_scale"].shape == ((1,) if smoothing == 0.0 else (SMALL.hidden,))


def test_float_tensors_are_those_of_the_format_and_no_views_of_the_network() -> None:
    network = random_network()
    tensors = float_tensors(network)
    validate_tensors(tensors, SMALL, "none")
    tensors["head.bias"][:] = 9.0
    assert not (network.head.bias == 9.0).any()


def unrounded_weight(tensors: Tensors, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The float matrix that the stored numbers stand for: y = weight_scale * (x / input_scale) @ rows."""
    product = tensors[f"{name}.weight_scale"][:, None].astype(np.float64) * tensors[f"{name}.weight"]
    return np.asarray(product / tensors[f"{name}.input_scale"])


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.8])
def test_smoothing_leaves_the_float_product_as_it_was_but_for_rounding(
    ranges: dict[str, ActivationRange], smoothing: float
) -> None:
    network = random_network()
    tensors = quantized(network, ranges, smoothing)
    for name in LINEARS:
        weight = network.get_submodule(name).weight.detach().numpy()  # type: ignore[operator]
        half_a_step = tensors[f"{name}.weight_scale"][:, None] / tensors[f"{name}.input_scale"] * 0.501
        assert (np.abs(unrounded_weight(tensors, name) - weight) <= half_a_step + 1e-7).all()


def test_smoothing_evens_out_the_channels_of_the_inputs() -> None:
    network = random_network()
    uneven = np.ones(SMALL.hidden, dtype=np.float32)
    uneven[3] = 100.0
    seen = {
        layer.name: ActivationRange(-np.resize(uneven, layer.inputs), np.resize(uneven, layer.inputs))
        for layer in linear_layers(SMALL)
    }
    plain, smooth = (quantized(network, seen, strength)[f"{LINEARS[0]}.input_scale"] for strength in (0.0, 0.5))
    finest = uneven / smooth  # levels that each channel may use
    assert finest.min() > 4 * (uneven / plain).min()


def test_ranges_are_the_extremes_over_real_tokens_of_all_batches() -> None:
    network = random_network()
    batches = [random_batch(LENGTHS, seed=1), random_batch((5, 64), seed=2)]
    together = observe(network, batches)
    alone = [observe(network, [one_of(batch, row)]) for batch in batches for row in range(len(batch.lengths))]
    for name in LINEARS:
        low = np.min([one[name].low for one in alone], axis=0)
        high = np.max([one[name].high for one in alone], axis=0)
        np.testing.assert_allclose(together[name].low, low, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together[name].high, high, rtol=1e-4, atol=1e-5)


def test_ranges_do_not_see_padding() -> None:
    network = random_network()
    with torch.no_grad():
        network.embeddings.word.weight[49] = 100 * torch.arange(SMALL.hidden)  # only ever in the padding
    batch = random_batch(LENGTHS, seed=1)
    narrow = Batch(batch.token_ids.clamp(max=48), batch.segment_starts, batch.lengths)
    wild = Batch(torch.where(narrow.real, narrow.token_ids, 49), narrow.segment_starts, narrow.lengths)
    quiet, loud = observe(network, [narrow]), observe(network, [wild])
    for name in LINEARS:
        assert (quiet[name].low == loud[name].low).all()
        assert (quiet[name].high == loud[name].high).all()


def test_observing_leaves_no_hook_behind() -> None:
    network = random_network()

    def failing() -> Iterator[Batch]:
        yield random_batch((5,))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        observe(network, failing())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_nothing_to_observe_and_values_that_are_not_finite_are_refused() -> None:
    network = random_network()
    with pytest.raises(ValueError, match="no batch"):
        observe(network, [])
    with torch.no_grad():
        network.embeddings.norm.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"layers\.0\.qkv are not all finite"):
        observe(network, [random_batch((5,))])


def test_ranges_under_dropping_cover_those_of_the_full_pass_and_of_every_sub_model() -> None:
    network, batch = random_network(), random_batch((40,), seed=3)
    drop = LengthDrop(SMALL.layers, 0.4, random_passes=3, seed=5)
    full, wide = observe(network, [batch]), observe(network, [batch], drop)
    assert all((wide[name].low <= full[name].low).all() for name in LINEARS)
    assert all((wide[name].high >= full[name].high).all() for name in LINEARS)
    assert any((wide[name].high > full[name].high).any() for name in LINEARS)
    alone = observe(network, [batch], LengthDrop(SMALL.layers, 0.4, random_passes=0, seed=5))
    assert all((wide[name].high >= alone[name].high).all() for name in LINEARS)


def test_padding_of_a_window_is_no_part_of_the_ranges_under_dropping() -> None:
    network, batch = random_network(), random_batch((33,), seed=4)
    padded = replace(batch, token_ids=torch.nn.functional.pad(batch.token_ids, (0, 7)))
    drop = LengthDrop(SMALL.layers, 0.4, seed=5)
    plain, with_padding = observe(network, [batch], drop), observe(network, [padded], drop)
    assert all((plain[name].high == with_padding[name].high).all() for name in LINEARS)
    assert all((plain[name].low == with_padding[name].low).all() for name in LINEARS)


def test_under_dropping_a_batch_of_several_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="one window"):
        observe(random_network(), [random_batch((9, 9), seed=1)], LengthDrop(SMALL.layers, 0.4))
