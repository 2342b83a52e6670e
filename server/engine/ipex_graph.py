"""The length-adaptive encoder in stages that torch traces, built from an artifact's neutral tensors.

A stage is what runs between two cuts of tokens: the feed-forward part of one layer and the attention of the next.
Everything in it has the same number of rows, so one traced stage serves every length and length configuration that
brings it that many rows.  A model of L layers has stages 0 to L: 0 begins with the embeddings, L ends with the head.

A linear layer is ``quantize -> dequantize -> linear``, with the artifact's scale and zero point as constants and the
artifact's integers as its weight.  That is what ``intel_extension_for_pytorch.quantization.convert`` writes around a
linear layer, too, but with ranges that its observers choose; here no observer is asked.  In a frozen trace IPEX turns
the three into one u8 x s8 product; without IPEX torch computes the same in floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_store.architecture import Architecture
from server.engine.interface import IntArray

Tensors = Mapping[str, NDArray[Any]]

PADDING_BIAS = -10000.0


class Embeddings:
    """Sums of word, position and segment embeddings, before their layer norm.

    Args:
        tensors: of the scheme ``int8``.
    """

    def __init__(self, tensors: Tensors) -> None:
        names = ("word", "word.scale", "position", "segment")
        self._word, self._scale, self._position, self._segment = (tensors[f"embeddings.{name}"] for name in names)

    def __call__(self, ids: IntArray, segment_start: int) -> Tensor:
        """Float32 ``[n, hidden]`` of the token ids ``[n]``."""
        summed = self._word[ids] * self._scale[ids][:, None]
        summed += self._position[: len(ids)]
        summed[:segment_start] += self._segment[0]
        summed[segment_start:] += self._segment[1]
        return torch.from_numpy(summed)


class Stage(nn.Module):
    """Stage `number` of a model, for any number of rows n until it is traced.

    Takes ``rows`` float32 ``[n, hidden]``: the embeddings' sums in stage 0, else what the cut left of the stage
    before; ``bias`` ``[n]``, 0 for tokens and `PADDING_BIAS` for padding; and ``asking`` ``[n]``, 1 for the tokens
    whose attention, or mean state, makes others significant, else 0.

    Gives ``logits`` ``[n, 2]``, start and end, of the hidden states before this stage's attention (those that a token
    keeps which the cut behind this stage drops); and, but in the last stage, ``rows`` after the attention's layer norm
    and their ``scores`` ``[n]``, the tokens' significance.
    """

    def __init__(self, architecture: Architecture, tensors: Tensors, number: int) -> None:
        super().__init__()
        self.heads, self.hidden = architecture.heads, architecture.hidden
        self.scale = 1.0 / math.sqrt(architecture.head_size)
        self.scores_states = architecture.scores_states
        epsilon = architecture.layer_norm_epsilon
        self.first, self.last = number == 0, number == architecture.layers
        self.head = _Affine(tensors, "head")
        before, here = f"layers.{number - 1}", f"layers.{number}"
        self.norm = _Norm(tensors, "embeddings.norm" if self.first else f"{before}.output_norm", epsilon)
        if not self.first:
            self.intermediate = _Int8Linear(tensors, f"{before}.intermediate")
            self.output = _Int8Linear(tensors, f"{before}.output")
        if not self.last:
            self.qkv = _Int8Linear(tensors, f"{here}.qkv")
            self.attention_output = _Int8Linear(tensors, f"{here}.attention_output")
            self.attention_norm = _Norm(tensors, f"{here}.attention_norm", epsilon)
            if self.scores_states:
                self.significance = _Scorer(tensors, f"{here}.significance")

    def forward(self, rows: Tensor, bias: Tensor, asking: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if not self.first:
            rows = rows + self.output(functional.gelu(self.intermediate(rows)))
        rows = self.norm(rows)
        logits = self.head(rows)
        if self.last:
            return (logits,)
        mixed, probabilities = self._attend(rows, bias)
        rows = self.attention_norm(rows + self.attention_output(mixed))
        scores = self.significance(rows, asking) if self.scores_states else (asking @ probabilities).sum(0)
        return logits, rows, scores

    def _attend(self, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed values ``[n, hidden]`` and attention probabilities ``[heads, n, n]`` (query, key)."""
        count = rows.shape[0]
        query, key, value = self.qkv(rows).view(count, 3, self.heads, -1).permute(1, 2, 0, 3).unbind(0)
        probabilities = (query @ key.transpose(1, 2) * self.scale + bias).softmax(-1)
        return (probabilities @ value).transpose(0, 1).reshape(count, self.hidden), probabilities


class _Int8Linear(nn.Module):
    """``model_store/FORMAT.md``, "Arithmetic".  The input's scales are divided out: it is quantized in steps of 1."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.zero_point = int(tensors[f"{name}.input_zero_point"][0])
        self.steps = torch.from_numpy(1.0 / tensors[f"{name}.input_scale"].astype(np.float32))
        scale = torch.from_numpy(tensors[f"{name}.weight_scale"])
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        integers = torch.from_numpy(tensors[f"{name}.weight"])
        self.weight = torch._make_per_channel_quantized_tensor(integers, scale, zeros, 0)  # noqa: SLF001 - the integers as they are
        self.bias = torch.from_numpy(tensors[f"{name}.bias"])

    def forward(self, rows: Tensor) -> Tensor:
        quantized = torch.quantize_per_tensor(rows * self.steps, 1.0, self.zero_point, torch.quint8)
        return functional.linear(quantized.dequantize(), self.weight.dequantize(), self.bias)


class _Affine(nn.Module):
    """A linear layer in floats."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.weight, self.bias = (torch.from_numpy(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))

    def forward(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.weight, self.bias)


class _Scorer(nn.Module):
    """Significance of each row from its state and, where it is bilinear, the mean state of those that ask, ``[n]``."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.weight, self.bias = (torch.from_numpy(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        self.bilinear = f"{name}.question" in tensors
        if self.bilinear:
            self.question, self.token = (torch.from_numpy(tensors[f"{name}.{part}"]) for part in ("question", "token"))

    def forward(self, rows: Tensor, asking: Tensor) -> Tensor:
        vector = self.weight
        if self.bilinear:
            mean = asking[None] @ rows / asking.sum().clamp(min=1.0)
            vector = vector + mean @ self.question.T @ self.token
        return functional.linear(rows, vector, self.bias)[:, 0]


class _Norm(nn.Module):
    def __init__(self, tensors: Tensors, name: str, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = (torch.from_numpy(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        self.epsilon = epsilon

    def forward(self, rows: Tensor) -> Tensor:
        return functional.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.epsilon)
