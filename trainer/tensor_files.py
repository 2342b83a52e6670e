"""safetensors files with errors that say which file; the library's own error is neither OSError nor ValueError."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def read_file(path: Path) -> dict[str, Tensor]:
    """All tensors by name.

    Raises:
        OSError: no such file.
        ValueError: damaged, or no safetensors file.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error


def write_file(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write all tensors.

    Raises:
        OSError: the file cannot be written (disk full).
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
