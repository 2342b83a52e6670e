"""promtool, which comes with Debian's package of Prometheus."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it; skips the test where there is none."""
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("no promtool here (Debian: apt-get install prometheus)")
    return subprocess.run(
        [binary, *(str(word) for word in words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
