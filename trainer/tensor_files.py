"""safetensors files with errors that say which file; the library's own error is neither OSError nor ValueError."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
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


def read_metadata(path: Path) -> dict[str, str]:
    """What `write_file` was given as metadata; empty where that was nothing.

    Raises:
        OSError: no such file.
        ValueError: damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
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


def digest(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256: enough to tell the inputs of runs apart."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
