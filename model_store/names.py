"""Names of models and versions, checked before they touch the disk."""

from __future__ import annotations

import re

from model_store.errors import InvalidModelNameError, PathOutsideStoreError

LATEST = "latest"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def check_name(name: str) -> None:
    """Check a model name.

    Raises:
        PathOutsideStoreError: absolute, or with a slash, a backslash, ``..`` or NUL.
        InvalidModelNameError: another form than FORMAT.md allows.
    """
    if ".." in name or any(character in name for character in "/\\\0"):
        raise PathOutsideStoreError(f"{name!r:.80} may lead out of the store")
    if not _NAME.fullmatch(name):
        raise InvalidModelNameError(
            f"{name!r:.80} is no model name (lower-case letters, digits, '.', '_' and '-', at most 64)"
        )


def version_number(text: str) -> int | None:
    """The version that a folder name or a spec means, or None if it means none."""
    return int(text) if _VERSION.fullmatch(text) else None


def parse_spec(spec: str) -> tuple[str, int | None]:
    """Name and version of ``name``, ``name@latest`` or ``name@3``; the version is None for the latest.

    Raises:
        PathOutsideStoreError, InvalidModelNameError: see `check_name`; also for a version that is neither a
            positive integer nor ``latest``.
    """
    name, at, version = spec.partition("@")
    check_name(name)
    if not at or version == LATEST:
        return name, None
    number = version_number(version)
    if number is None:
        if ".." in version or any(character in version for character in "/\\\0"):
            raise PathOutsideStoreError(f"{spec!r:.80} may lead out of the store")
        raise InvalidModelNameError(f"{version!r:.40} is no version (a positive integer or '{LATEST}')")
    return name, number
