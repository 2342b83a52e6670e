"""Files of a store: no links, digests, and bytes that are on the disk when a function returns."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from model_store.errors import MissingFileError, PathOutsideStoreError, UnexpectedFileError

CHUNK_BYTES = 1 << 20


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} is missing") from error


def require_regular_file(path: Path) -> None:
    """Check, before opening, that `path` is a file of its own.

    Raises:
        MissingFileError: it is not there.
        PathOutsideStoreError: it is a symbolic link.
        UnexpectedFileError: it is a folder, a pipe, a device, ... (opening which could hang).
    """
    mode = _mode(path)
    if stat.S_ISLNK(mode):
        raise PathOutsideStoreError(f"{path} is a symbolic link; a store holds none")
    if not stat.S_ISREG(mode):
        raise UnexpectedFileError(f"{path} is no regular file")


def require_folder(path: Path) -> None:
    """Check that `path` is a folder of its own.

    Raises:
        MissingFileError: it is not there.
        PathOutsideStoreError: it is a symbolic link.
        UnexpectedFileError: it is something else.
    """
    mode = _mode(path)
    if stat.S_ISLNK(mode):
        raise PathOutsideStoreError(f"{path} is a symbolic link; a store holds none")
    if not stat.S_ISDIR(mode):
        raise UnexpectedFileError(f"{path} is no folder")


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fsync(path: Path) -> None:
    """Return when `path`, a file or a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and return when its bytes are on the disk (its name is only after `fsync` of the folder)."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
