"""Debian's Prometheus, for tests: installed or unpacked for the occasion."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def prometheus_binary(folder: Path) -> Path:
    """The installed binary, or one unpacked from Debian's package into `folder`.

    Unpacking needs no root and, unlike installing, starts no service.  Skips the test where neither can be had.
    """
    installed = shutil.which("prometheus")
    if installed is not None:
        return Path(installed)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no prometheus is installed, and this is no Debian to take one from")
    if not _downloaded(folder):
        if os.geteuid() == 0:
            _quietly("apt-get", "update", cwd=folder)
        if os.geteuid() != 0 or not _downloaded(folder):
            pytest.skip("no prometheus is installed, and apt-get download prometheus failed")
    (package,) = folder.glob("prometheus_*.deb")
    _quietly("dpkg-deb", "--extract", str(package), str(folder), cwd=folder)
    return folder / "usr" / "bin" / "prometheus"


def _downloaded(folder: Path) -> bool:
    return _quietly("apt-get", "download", "prometheus", cwd=folder) and any(folder.glob("prometheus_*.deb"))


def _quietly(*command: str, cwd: Path) -> bool:
    """Whether `command` ended well, within minutes."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
