"""The weights: FORMAT.md, "model.safetensors".

The container is the safetensors library's; what it leaves open is checked here first: the size of the
header (before it is parsed), the extent of the data, and that the tensors are those of the architecture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from model_store.architecture import SIGNIFICANCE_RANK, Architecture, linear_layers
from model_store.errors import InvalidTensorError, OversizedHeaderError, TruncatedFileError
from model_store.files import require_regular_file

MAXIMUM_HEADER_BYTES = 1 << 20

Tensors = dict[str, NDArray[Any]]

_DTYPES = {"float32": "F32", "int8": "I8", "uint8": "U8"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor must be: a numpy type name, the shapes that are allowed, and whether it must be there."""

    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    optional: bool = False


def tensor_layout(architecture: Architecture, scheme: str) -> dict[str, TensorSpec]:
    """All tensors of an artifact by name, for the quantization scheme ``int8`` or ``none``."""
    hidden = architecture.hidden
    weights = "int8" if scheme == "int8" else "float32"
    layout: dict[str, TensorSpec] = {}

    def add(name: str, *shapes: tuple[int, ...], dtype: str = "float32") -> None:
        layout[name] = TensorSpec(dtype, shapes)

    add("embeddings.word", (architecture.vocabulary, hidden), dtype=weights)
    add("embeddings.position", (architecture.positions, hidden))
    add("embeddings.segment", (architecture.segments, hidden))
    layers = range(architecture.layers)
    norms = [f"layers.{layer}.{part}_norm" for layer in layers for part in ("attention", "output")]
    for norm in ("embeddings.norm", *norms):
        add(f"{norm}.weight", (hidden,))
        add(f"{norm}.bias", (hidden,))
    for linear in linear_layers(architecture):
        add(f"{linear.name}.weight", (linear.outputs, linear.inputs), dtype=weights)
        add(f"{linear.name}.bias", (linear.outputs,))
        if scheme == "int8":
            add(f"{linear.name}.weight_scale", (linear.outputs,))
            add(f"{linear.name}.input_scale", (1,), (linear.inputs,))
            add(f"{linear.name}.input_zero_point", (1,), dtype="uint8")
    if architecture.scores_states:
        for layer in layers:
            add(f"layers.{layer}.significance.weight", (1, hidden))
            add(f"layers.{layer}.significance.bias", (1,))
            if architecture.significance == "bilinear":
                add(f"layers.{layer}.significance.question", (SIGNIFICANCE_RANK, hidden))
                add(f"layers.{layer}.significance.token", (SIGNIFICANCE_RANK, hidden))
    add("head.weight", (2, hidden))
    add("head.bias", (2,))
    if scheme == "int8":
        add("embeddings.word.scale", (architecture.vocabulary,))
    return layout


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], architecture: Architecture, scheme: str) -> None:
    """Check `tensors` and write them; equal tensors give equal bytes.

    Raises:
        InvalidTensorError: see `validate_tensors`.
        OSError: the file could not be written (no space, for example).
    """
    write_tensors_of(path, tensors, tensor_layout(architecture, scheme))


def write_tensors_of(path: Path, tensors: Mapping[str, NDArray[Any]], layout: Mapping[str, TensorSpec]) -> None:
    """`write_tensors` of any layout."""
    validate_tensors_of(tensors, layout)
    data = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    path.write_bytes(data)


def read_tensors(path: Path, architecture: Architecture, scheme: str) -> Tensors:
    """All tensors by name, checked.

    Raises:
        OversizedHeaderError, TruncatedFileError, InvalidTensorError: see FORMAT.md.
        MissingFileError, PathOutsideStoreError, UnexpectedFileError: no regular file.
    """
    return read_tensors_of(path, tensor_layout(architecture, scheme))


def read_tensors_of(path: Path, layout: Mapping[str, TensorSpec]) -> Tensors:
    """`read_tensors` of any layout."""
    check_layout_of_file(path, layout)
    try:
        tensors: Tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        raise InvalidTensorError(f"{path}: {error!s:.200}") from error
    validate_tensors_of(tensors, layout)
    return tensors


def validate_tensors(tensors: Mapping[str, NDArray[Any]], architecture: Architecture, scheme: str) -> None:
    """Check names, types, shapes and values.

    Raises:
        InvalidTensorError: a missing or extra name, a wrong type or shape, a value that is not finite, a
            scale that is not positive, or -128 in an int8 tensor.
    """
    validate_tensors_of(tensors, tensor_layout(architecture, scheme))


def validate_tensors_of(tensors: Mapping[str, NDArray[Any]], layout: Mapping[str, TensorSpec]) -> None:
    """`validate_tensors` of any layout."""
    found = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    _check_layout(found, layout)
    for name, tensor in tensors.items():
        _check_values(name, tensor)


def check_tensor_file(path: Path, architecture: Architecture, scheme: str) -> None:
    """Check what can be checked without reading the data: extents, names, types and shapes.

    Raises:
        as `read_tensors`, except for values.
    """
    check_layout_of_file(path, tensor_layout(architecture, scheme))


def check_layout_of_file(path: Path, layout: Mapping[str, TensorSpec]) -> None:
    """`check_tensor_file` of any layout."""
    header, data_bytes = _read_header(path)
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    end = 0
    try:
        for name, entry in header.items():
            if name != "__metadata__":
                found[name] = (_dtype_name(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
                end = max(end, int(entry["data_offsets"][1]))
    except (TypeError, KeyError, IndexError, ValueError, OverflowError) as error:
        raise InvalidTensorError(f"{path}: the header is of another form than safetensors'") from error
    if end > data_bytes:
        raise TruncatedFileError(f"{path}: the tensors need {end} bytes, {data_bytes} are there")
    _check_layout(found, layout)


def _dtype_name(code: object) -> str:
    return {short: name for name, short in _DTYPES.items()}.get(str(code), str(code)[:40])


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The parsed header and the number of bytes that follow it."""
    require_regular_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8:
            raise TruncatedFileError(f"{path} has {size} bytes, fewer than the 8 of the header's length")
        if length > MAXIMUM_HEADER_BYTES:
            raise OversizedHeaderError(f"{path}: a header of {length} bytes; at most {MAXIMUM_HEADER_BYTES} are read")
        if 8 + length > size:
            raise TruncatedFileError(f"{path}: a header of {length} bytes in a file of {size}")
        data = file.read(length)
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidTensorError(f"{path}: the header is no JSON: {error!s:.200}") from error
    if not isinstance(header, dict):
        raise InvalidTensorError(f"{path}: the header is no JSON object")
    return header, size - 8 - length


def _check_layout(found: Mapping[str, tuple[str, tuple[int, ...]]], layout: Mapping[str, TensorSpec]) -> None:
    missing = sorted(name for name in layout.keys() - found.keys() if not layout[name].optional)
    extra = sorted(found.keys() - layout.keys())
    if missing:
        raise InvalidTensorError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    if extra:
        raise InvalidTensorError(f"{len(extra)} tensors are not in the format, the first is {extra[0]!r:.80}")
    for name, (dtype, shape) in found.items():
        spec = layout[name]
        if dtype != spec.dtype or shape not in spec.shapes:
            wanted = " or ".join(str(list(allowed)) for allowed in spec.shapes)
            raise InvalidTensorError(f"{name} must be {spec.dtype} {wanted}, got {dtype} {list(shape)!s:.80}")


def _check_values(name: str, tensor: NDArray[Any]) -> None:
    if tensor.dtype == np.int8 and int(tensor.min()) < -127:
        raise InvalidTensorError(f"{name} holds -128; int8 tensors are symmetric, -127 to 127")
    if tensor.dtype == np.float32:
        if not bool(np.isfinite(tensor).all()):
            raise InvalidTensorError(f"{name} holds a value that is not finite")
        if name.endswith("scale") and not bool((tensor > 0).all()):
            raise InvalidTensorError(f"{name} holds a scale that is not positive")
