"""Fixtures of what is compiled once per level of instructions."""

from __future__ import annotations

import pytest

from server.engine import NATIVE_LIBRARIES, native
from server.engine.native import NEEDED

LEVELS = [level for level in native._levels() if NATIVE_LIBRARIES[level].exists()]


@pytest.fixture(params=LEVELS or [""])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one whose library is loaded, each that this processor has in turn; empty where there is none."""
    name = str(request.param)
    if name:
        monkeypatch.setattr(native, "NEEDED", {name: NEEDED[name]})
    return name
