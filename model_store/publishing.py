"""Atomic publication: what has a version's name is complete, always.  FORMAT.md, "Store"."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from model_store.artifact import find_defects
from model_store.errors import StoreFullError, UnexpectedFileError, VersionExistsError
from model_store.files import fsync, require_folder, require_regular_file, sha256_of, write_durably
from model_store.manifest import MANIFEST_FILE, FileEntry, Manifest, ModelDescription, check_file_name
from model_store.names import version_number

Builder = Callable[[Path], ModelDescription]
"""Writes every file but the manifest into the folder that it is given, and describes the model."""

TEMPORARY_PREFIX = ".tmp-"
POINTER_FILE = "latest.json"
ATTEMPTS = 1000
"""How many numbers are tried while other publishers take them first."""

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def temporary_path(home: Path) -> Path:
    """A name in `home` that readers ignore and no other publisher uses."""
    return home / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"


def next_version(home: Path) -> int:
    """One more than the highest number taken in `home`."""
    numbers = [version_number(path.name) or 0 for path in home.iterdir()]
    return max(numbers, default=0) + 1


def publish(root: Path, name: str, build: Builder, version: int | None, created: datetime) -> int:
    """Build, check and publish one version; see `ModelStore.publish`."""
    home = root / name
    temporary = temporary_path(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        require_folder(home)
        if version is not None and os.path.lexists(home / str(version)):
            raise VersionExistsError(f"{name}@{version} is published already")
        temporary.mkdir()
        description = build(temporary)
        published = _commit(home, temporary, description, version, created)
        (home / POINTER_FILE).unlink(missing_ok=True)
        fsync(home)
        fsync(root)
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(f"no space left to publish {name} in {root}") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # not there any more after the rename
    return published


def _commit(home: Path, temporary: Path, description: ModelDescription, version: int | None, created: datetime) -> int:
    files = _describe_files(temporary)
    for _ in range(ATTEMPTS):
        number = next_version(home) if version is None else version
        manifest = Manifest.of(description, home.name, number, created, files)
        write_durably(temporary / MANIFEST_FILE, manifest.to_json())
        for defect in find_defects(temporary):
            raise defect
        fsync(temporary)
        if _rename(temporary, home / str(number)):
            return number
        if version is not None:
            break
    raise VersionExistsError(f"{home.name}@{number} is published already")


def _rename(temporary: Path, target: Path) -> bool:
    """Whether the rename went through; False if somebody else has the number."""
    if os.path.lexists(target):  # a rename would replace an empty folder
        return False
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _describe_files(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of all files of `folder`, which are on the disk when this returns."""
    entries: dict[str, FileEntry] = {}
    for path in sorted(folder.iterdir()):
        require_regular_file(path)
        if path.name == MANIFEST_FILE:
            raise UnexpectedFileError(f"{path}: the manifest is written by the store")
        check_file_name(path.name)
        fsync(path)
        entries[path.name] = FileEntry(path.stat().st_size, sha256_of(path))
    return entries
