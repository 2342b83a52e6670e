"""Float weights to int8: weights per output channel, activations per tensor, SmoothQuant in between.

What comes out are the neutral tensors of ``model_store/FORMAT.md``; every engine builds its own graph from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_store import Tensors, linear_layers
from trainer.length_drop import LengthDrop
from trainer.network import Batch, LengthAdaptiveMiniLM

ACTIVATION_LEVELS = 255
WEIGHT_LEVELS = 127
SMOOTHING = 0.75
"""SmoothQuant's alpha: of those tried, the least logit error (LOG.md)."""

_SMALLEST = 1e-8


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """What the inputs of one linear layer were seen to be, per channel.

    Attributes:
        low: float32 ``[in]``, smallest value seen.
        high: float32 ``[in]``, largest value seen.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InputGrid:
    """The 256 levels that the inputs of one linear layer are rounded to.

    Attributes:
        smooth: float32 ``[in]``, or ``[1]`` without smoothing; each channel is divided by it, its weights multiplied.
        step: between two levels, after that division.
        zero_point: the level of 0, 0 to 255.
    """

    smooth: NDArray[np.float32]
    step: float
    zero_point: int

    @property
    def scale(self) -> NDArray[np.float32]:
        """Between two levels of each channel as it comes, of the shape of `smooth`."""
        return (self.smooth * self.step).astype(np.float32)


@torch.inference_mode()
def observe(
    network: LengthAdaptiveMiniLM, batches: Iterable[Batch], drop: LengthDrop | None = None
) -> dict[str, ActivationRange]:
    """Activation calibration: ranges of each linear layer's inputs over the real tokens of `batches`.

    Args:
        network: float32.
        batches: of one window each, if `drop` is given.
        drop: draws sub-models; every one of them sees every batch.  None: the full pass alone.

    Raises:
        ValueError: no batch, a value that is not finite, or `drop` with a batch of several windows.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    real = torch.zeros(0)

    def hook(name: str) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0][real] if drop is None else inputs[0].flatten(0, 1)
            low, high = rows.amin(0), rows.amax(0)
            if name in seen:
                low, high = torch.minimum(seen[name][0], low), torch.maximum(seen[name][1], high)
            seen[name] = (low, high)

        return record

    linears = [(item.name, network.get_submodule(item.name)) for item in linear_layers(network.architecture)]
    handles = [module.register_forward_pre_hook(hook(name)) for name, module in linears]
    try:
        for step, batch in enumerate(batches):
            real = batch.real
            if drop is None:
                network(batch)
                continue
            if len(real) != 1:
                raise ValueError("under dropping, a batch of calibration is one window")
            window = replace(batch, token_ids=batch.token_ids[:, : int(batch.lengths[0])])  # its rows are all tokens
            for sub_model in drop.sub_models(window, step):
                network(window, sub_model.kept, protected=sub_model.protected)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ValueError("no batch to calibrate with")
    return {name: ActivationRange(_finite(name, low), _finite(name, high)) for name, (low, high) in seen.items()}


def _finite(name: str, values: Tensor) -> NDArray[np.float32]:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"the inputs of {name} are not all finite")
    return values.float().numpy()


def input_grids(
    network: LengthAdaptiveMiniLM, ranges: Mapping[str, ActivationRange], smoothing: float = SMOOTHING
) -> dict[str, InputGrid]:
    """The grid of each linear layer's inputs, by the layer's name.

    Args:
        network: float32.
        ranges: from `observe`.
        smoothing: SmoothQuant's migration strength alpha (Xiao et al. 2023, section 4): 0 leaves activations
            as they are (one scale per tensor), 1 moves all of their unevenness into the weights.
    """
    grids = {}
    for linear in linear_layers(network.architecture):
        weight = network.get_parameter(f"{linear.name}.weight").detach().float().cpu().numpy()
        smooth = _smooth_factors(ranges[linear.name], weight, smoothing)
        grids[linear.name] = InputGrid(smooth, *_input_step(ranges[linear.name], smooth))
    return grids


def int8_tensors(network: LengthAdaptiveMiniLM, grids: Mapping[str, InputGrid]) -> Tensors:
    """The tensors of an int8 artifact.

    Args:
        network: float32.
        grids: of the inputs of every linear layer, from `input_grids`.
    """
    tensors = float_tensors(network)
    for linear in linear_layers(network.architecture):
        name, grid = linear.name, grids[linear.name]
        rows, weight_step = quantize_rows(tensors.pop(f"{name}.weight") * grid.smooth)
        tensors[f"{name}.weight"] = rows
        tensors[f"{name}.weight_scale"] = (weight_step * grid.step).astype(np.float32)
        tensors[f"{name}.input_scale"] = grid.scale
        tensors[f"{name}.input_zero_point"] = np.asarray([grid.zero_point], dtype=np.uint8)
    words, scale = quantize_rows(tensors["embeddings.word"])
    return tensors | {"embeddings.word": words, "embeddings.word.scale": scale}


def float_tensors(network: LengthAdaptiveMiniLM) -> Tensors:
    """The tensors of an artifact of the scheme ``none``."""
    tensors = {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
    for part in ("word", "position", "segment"):
        tensors[f"embeddings.{part}"] = tensors.pop(f"embeddings.{part}.weight")
    return tensors


def quantize_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 per row: ``matrix[r] ~ scale[r] * rows[r]``, rows in -127..127."""
    scale = row_steps(torch.from_numpy(matrix)).numpy()
    rows = np.clip(np.rint(matrix / scale), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)
    return rows, scale[:, 0]


def row_steps(matrix: Tensor) -> Tensor:
    """Step of each row's symmetric levels, ``[..., 1]`` for ``[..., in]``: the largest value is the last level."""
    return matrix.abs().amax(-1, keepdim=True).clamp(min=_SMALLEST) / WEIGHT_LEVELS


def _smooth_factors(seen: ActivationRange, weight: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """What each input channel is divided by, ``[in]``, or ``[1]`` without smoothing."""
    if strength == 0.0:
        return np.ones(1, dtype=np.float32)
    inputs = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), _SMALLEST)
    columns = np.maximum(np.abs(weight).max(axis=0), _SMALLEST)
    factors = inputs**strength / columns ** (1.0 - strength)
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float32)


def _input_step(seen: ActivationRange, smooth: NDArray[np.float32]) -> tuple[float, int]:
    """Step and zero point of the smoothed inputs, min-max, with 0 exactly on a level."""
    low = min(0.0, float((seen.low / smooth).min()))
    high = max(0.0, float((seen.high / smooth).max()))
    step = max(high - low, _SMALLEST) / ACTIVATION_LEVELS
    return step, int(np.clip(np.rint(-low / step), 0, ACTIVATION_LEVELS))
