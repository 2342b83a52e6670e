"""Quantization-aware training: the copy that computes rounds as the int8 artifact will.

Weights and activations lie on their int8 levels in the forward pass; in the backward pass a gradient goes through
the rounding as if it were not there, and stops where an activation is beyond the last level (straight-through
estimator, Bengio et al. 2013, section 4; simulated quantization, Jacob et al. 2018, section 3).  Rounded is what
``model_store/FORMAT.md`` says, to the same levels, and nothing else: the linear layers and the word embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainer.network import LengthAdaptiveMiniLM
from trainer.precision import WorkingCopy
from trainer.quantize import ACTIVATION_LEVELS, WEIGHT_LEVELS, InputGrid, row_steps


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
        rounded = (values / step).round_()
        levels = rounded.clamp(lowest, highest)
        ctx.save_for_backward(rounded == levels)
        return (levels * step).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fake_quantized(values: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
    """`values` on the levels ``lowest * step`` to ``highest * step``; ties go to the even level.

    The gradient is 1 for what rounds to one of the levels and 0 for what lies beyond them; `step` has none.

    Args:
        values: any shape, float32 or bfloat16; levels are worked out in float32.
        step: positive float32, of a shape that `values` can be divided by.
        lowest: level, at most 0.
        highest: level, at least 0.
    """
    return _StraightThrough.apply(values, step, lowest, highest)  # type: ignore[no-any-return, no-untyped-call]


def fake_quantized_rows(matrix: Tensor) -> Tensor:
    """`matrix` ``[..., in]`` with every row on its own symmetric levels, as `quantize.quantize_rows` rounds it."""
    return fake_quantized(matrix, row_steps(matrix.detach()), -WEIGHT_LEVELS, WEIGHT_LEVELS)


class QuantizedCopy(WorkingCopy):
    """A working copy that computes what the int8 artifact of its master would, but for the rest's precision.

    Rounding the masters into it goes on to their int8 levels, and so their gradients pass straight through.  In
    bfloat16 a level's value is itself rounded, by up to 1/512 of it.

    Args:
        master: float32; stays as it is, a plain network.
        dtype: of the copy.
        grids: of the inputs of every linear layer, held fixed.
    """

    def __init__(self, master: LengthAdaptiveMiniLM, dtype: torch.dtype, grids: Mapping[str, InputGrid]) -> None:
        super().__init__(master, dtype, apart=True)
        device = master.head.weight.device
        self._linears: list[tuple[nn.Parameter, nn.Parameter, Tensor]] = []
        for name, grid in grids.items():
            self.network.get_submodule(name).register_forward_pre_hook(_rounding_inputs(grid, device))
            original, working = (each.get_parameter(f"{name}.weight") for each in (master, self.network))
            self._linears.append((original, working, torch.from_numpy(grid.smooth).to(device)))
        self.network.embeddings.word.register_forward_hook(lambda _, __, rows: fake_quantized_rows(rows))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters into the copy, weights of linear layers to their int8 levels."""
        super().refresh()
        for original, working, smooth in self._linears:
            working.copy_(fake_quantized_rows(original * smooth) / smooth)


def _rounding_inputs(grid: InputGrid, device: torch.device) -> Any:
    """A hook that puts a linear layer's inputs on `grid`."""
    step = torch.from_numpy(grid.scale).to(device)
    lowest, highest = -grid.zero_point, ACTIVATION_LEVELS - grid.zero_point

    def rounded(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return fake_quantized(inputs[0], step, lowest, highest)

    return rounded
