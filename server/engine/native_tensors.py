"""An artifact's tensors as the native kernels read them: the structures of ``kernels/`` and how they are filled.

All widths are padded with zeros: hidden units and inner ones to multiples of 64, each head to whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.architecture import SIGNIFICANCE_RANK, Architecture

BLOCK = 64
"""What widths are padded to: whole panels, at every level of instructions."""

LANES = 16
"""Floats of one vector."""

_LINE = 64  # bytes
_LARGEST = np.float32(3e38)  # of an inverted scale: infinite times zero would be no number
_SIGNIFICANCE = {"all": 0, "question": 1, "learned": 2, "bilinear": 3}

Array = NDArray[Any]
Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where the units of one side of a linear layer lie.

    Attributes:
        places: int ``[units]``, column of each.
        width: of all columns.
    """

    places: Array
    width: int

    def repeated(self, times: int) -> _Axis:
        """Side by side, as query, key and value are."""
        return _Axis(np.concatenate([time * self.width + self.places for time in range(times)]), times * self.width)

    def spread(self, values: Array) -> Array:
        """Float32 ``[width]``, zeros where no unit is."""
        wide = np.zeros(self.width, dtype=np.float32)
        wide[self.places] = values
        return wide


@dataclass(frozen=True, slots=True)
class Packing:
    """How the kernels that were loaded want weights (``products.h``).

    Attributes:
        panel: columns that are computed together; divides `BLOCK`.
        side_by_side: inputs of one column that lie beside each other; divides `BLOCK`.
    """

    panel: int
    side_by_side: int

    def packed(self, weight: Array) -> Array:
        """``[outputs, inputs]`` as ``[panels, inputs / side_by_side, panel, side_by_side]``."""
        outputs, inputs = weight.shape
        parts = weight.reshape(outputs // self.panel, self.panel, inputs // self.side_by_side, self.side_by_side)
        return parts.transpose(0, 2, 1, 3)


class LinearStructure(Structure):
    """``Linear`` of products.h."""

    _fields_ = (
        ("weight", c_void_p),
        ("offset", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("inverse", c_void_p),
        ("zero", c_int32),
        ("inputs", c_int32),
        ("outputs", c_int32),
    )


class LayerStructure(Structure):
    """``Layer`` of model.h."""

    _fields_ = (
        ("qkv", LinearStructure),
        ("attention_output", LinearStructure),
        ("intermediate", LinearStructure),
        ("output", LinearStructure),
        ("attention_norm_weight", c_void_p),
        ("attention_norm_bias", c_void_p),
        ("output_norm_weight", c_void_p),
        ("output_norm_bias", c_void_p),
        ("significance_weight", c_void_p),
        ("significance_question", c_void_p),
        ("significance_token", c_void_p),
        ("significance_bias", c_float),
    )


class ModelStructure(Structure):
    """``Model`` of model.h."""

    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("hidden_width", c_int32),
        ("heads", c_int32),
        ("head_width", c_int32),
        ("attention_width", c_int32),
        ("inner_width", c_int32),
        ("positions", c_int32),
        ("significance", c_int32),
        ("significance_rank", c_int32),
        ("epsilon", c_float),
        ("words", c_void_p),
        ("word_scales", c_void_p),
        ("position_rows", c_void_p),
        ("segment_rows", c_void_p),
        ("norm_weight", c_void_p),
        ("norm_bias", c_void_p),
        ("head_weight", c_void_p),
        ("head_bias", c_void_p),
        ("layer", POINTER(LayerStructure)),
    )


class PackedTensors:
    """An artifact's tensors as the kernels read them; frees them with itself.

    Attributes:
        model: what points at all of them.
    """

    def __init__(self, architecture: Architecture, tensors: Tensors, packing: Packing) -> None:
        self._tensors = tensors
        self._packing = packing
        self._architecture = architecture
        self._memory: list[Array] = []  # what the structures point into
        heads, size = architecture.heads, architecture.head_size
        head_width = padded(size, LANES)
        self._hidden = _Axis(np.arange(architecture.hidden), padded(architecture.hidden))
        self._inner = _Axis(np.arange(architecture.intermediate), padded(architecture.intermediate))
        columns = (np.arange(heads)[:, None] * head_width + np.arange(size)).ravel()
        self._attention = _Axis(columns, padded(heads * head_width))
        self._layers = (LayerStructure * architecture.layers)(*map(self._layer, range(architecture.layers)))
        self.model = ModelStructure(
            architecture.layers,
            architecture.hidden,
            self._hidden.width,
            heads,
            head_width,
            self._attention.width,
            self._inner.width,
            architecture.positions,
            _SIGNIFICANCE[architecture.significance],
            SIGNIFICANCE_RANK,
            architecture.layer_norm_epsilon,
            self._plain(tensors["embeddings.word"]),
            self._plain(tensors["embeddings.word.scale"]),
            self._rows("embeddings.position"),
            self._rows("embeddings.segment"),
            self._rows("embeddings.norm.weight"),
            self._rows("embeddings.norm.bias"),
            self._rows("head.weight"),
            self._plain(tensors["head.bias"]),
            self._layers,
        )
        del self._tensors  # everything of it was copied

    def _layer(self, index: int) -> LayerStructure:
        root = f"layers.{index}"
        shape = self._architecture
        asking = np.ones(3 * shape.hidden)
        asking[: shape.hidden] = 1.0 / math.sqrt(shape.head_size)
        linears = (
            self._linear(f"{root}.qkv", self._attention.repeated(3), self._hidden, asking),
            self._linear(f"{root}.attention_output", self._hidden, self._attention),
            self._linear(f"{root}.intermediate", self._inner, self._hidden),
            self._linear(f"{root}.output", self._hidden, self._inner),
        )
        norms = (f"{root}.{norm}.{part}" for norm in ("attention_norm", "output_norm") for part in ("weight", "bias"))
        scoring = (f"{root}.significance.{part}" for part in ("weight", "question", "token"))
        return LayerStructure(
            *linears,
            *(self._rows(name) for name in norms),
            *(self._rows(name) if name in self._tensors else None for name in scoring),
            float(self._tensors[f"{root}.significance.bias"][0]) if shape.scores_states else 0.0,
        )

    def _linear(self, name: str, outputs: _Axis, inputs: _Axis, factor: Array | float = 1.0) -> LinearStructure:
        """A linear layer, its outputs multiplied by `factor`."""
        weight, scale, bias = (self._tensors[f"{name}.{part}"] for part in ("weight", "weight_scale", "bias"))
        zero = int(self._tensors[f"{name}.input_zero_point"][0])
        wide = np.zeros((outputs.width, inputs.width), dtype=np.int8)
        wide[np.ix_(outputs.places, inputs.places)] = weight
        inverse = np.ones(inputs.width, dtype=np.float32)
        with np.errstate(over="ignore"):
            steps = np.float32(1.0) / self._tensors[f"{name}.input_scale"]
        inverse[inputs.places] = np.minimum(steps, _LARGEST)
        return LinearStructure(
            self._plain(self._packing.packed(wide)),
            self._plain((-zero * wide.sum(1, dtype=np.int64)).astype(np.int32)),
            self._plain(outputs.spread(scale * factor)),
            self._plain(outputs.spread(bias * factor)),
            self._plain(inverse),
            zero,
            inputs.width,
            outputs.width,
        )

    def _rows(self, name: str) -> int:
        """Rows of hidden units, each padded with zeros."""
        tensor = self._tensors[name]
        wide = np.zeros((*tensor.shape[:-1], self._hidden.width), dtype=np.float32)
        wide[..., : tensor.shape[-1]] = tensor
        return self._plain(wide)

    def _plain(self, values: Array) -> int:
        """Address of a copy that begins with a cache line."""
        copy = in_lines(values)
        self._memory.append(copy)
        return int(copy.ctypes.data)


def in_lines(values: Array) -> Array:
    """A copy that begins with a cache line, in C order."""
    memory = np.empty(values.nbytes + _LINE, dtype=np.uint8)
    first = -memory.ctypes.data % _LINE
    copy = memory[first : first + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def padded(count: int, step: int = BLOCK) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step
