"""Latency profiles on disk: a folder with one JSON file per key, written so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from model_store.files import fsync, write_durably
from model_store.strict_json import MAXIMUM_JSON_BYTES, dump
from server.errors import LeewayError
from server.routing.profile import InvalidProfileError, LatencyProfile, ProfileKey, parse_profile

_TEMPORARY_PREFIX = ".unfinished-"


class ProfileMismatchError(LeewayError):
    """A profile that was measured for something else.

    Attributes:
        field: name of the first field of the key that differs.
        wanted: its value in the key that was asked for.
        found: its value in the profile.
    """

    def __init__(self, path: Path, field: str, wanted: object, found: object) -> None:
        super().__init__(f"{path} was measured for another {field}: wanted {wanted!r}, found {found!r}")
        self.field = field
        self.wanted = wanted
        self.found = found


def profile_path(folder: Path, key: ProfileKey) -> Path:
    """Where the profile of `key` is kept: ``profile-<32 hex digits of a SHA-256>.json``."""
    digest = hashlib.sha256(dump(asdict(key), "key", InvalidProfileError)).hexdigest()
    return folder / f"profile-{digest[:32]}.json"


def load_profile(folder: Path, key: ProfileKey) -> LatencyProfile | None:
    """The profile of `key`; None if there is none, or no such folder.

    Raises:
        ProfileMismatchError: the file of that name holds the profile of another key.
        InvalidProfileError: the file is damaged, or no regular file.
        OSError: it cannot be read.
    """
    path = profile_path(folder, key)
    try:
        data = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    profile = parse_profile(data, str(path))
    for field in fields(ProfileKey):
        wanted, found = getattr(key, field.name), getattr(profile.key, field.name)
        if wanted != found:
            raise ProfileMismatchError(path, field.name, wanted, found)
    return profile


def load_profiles(folder: Path) -> list[LatencyProfile]:
    """Every profile in `folder` that can be read, of whatever key; none if there is no such folder."""
    found = []
    for path in sorted(folder.glob("profile-*.json")):
        with suppress(InvalidProfileError, OSError):
            profile = parse_profile(_read(path), str(path))
            if profile_path(folder, profile.key) == path:
                found.append(profile)
    return found


def store_profile(folder: Path, profile: LatencyProfile) -> Path:
    """Keep `profile` in `folder`, in place of an earlier one of the same key, and say where.

    Raises:
        OSError: the folder cannot be made or written to, or is full; an earlier profile is untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = profile_path(folder, profile.key)
    temporary = _reserve(folder)
    try:
        write_durably(temporary, profile.to_json())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync(folder)
    return path


def require_writable(folder: Path) -> None:
    """Make the folder and a file in it, so that a measurement is not thrown away after it was made.

    Raises:
        OSError: says what stands in the way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _reserve(folder).unlink()


def _reserve(folder: Path) -> Path:
    """An empty file of a new name in `folder`."""
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=folder)
    os.close(descriptor)
    return Path(name)


def _read(path: Path) -> bytes:
    """At most `MAXIMUM_JSON_BYTES`; links are followed, as mounted configuration consists of them."""
    if path.exists() and not path.is_file():  # a pipe would hang
        raise InvalidProfileError(f"{path} is no regular file")
    with path.open("rb") as file:
        data = file.read(MAXIMUM_JSON_BYTES + 1)
    if len(data) > MAXIMUM_JSON_BYTES:
        raise InvalidProfileError(f"{path} is over {MAXIMUM_JSON_BYTES} bytes")
    return data
