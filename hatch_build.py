"""hatchling's build hook: the wheel and an editable install get the libraries that scripts/build_native.py compiles."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _build_native(root: Path) -> ModuleType:
    """scripts/build_native.py; a backend runs without the tree on its path."""
    specification = importlib.util.spec_from_file_location("build_native", root / "scripts" / "build_native.py")
    if specification is None or specification.loader is None:
        raise ImportError(f"no scripts/build_native.py in {root}")
    module = importlib.util.module_from_spec(specification)
    sys.modules["build_native"] = module  # dataclasses look themselves up there
    specification.loader.exec_module(module)
    return module


class NativeLibraryHook(BuildHookInterface[Any]):
    """Compiles before the files of a wheel are collected."""

    def dependencies(self) -> list[str]:
        """What must be installed to compile: ziglang, where this machine has no compiler."""
        root = Path(self.root)
        needed: list[str] = _build_native(root).requirements(root, os.environ)
        return needed

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and make the wheel one for this platform; without libraries it stays one for all."""
        root = Path(self.root)
        native = _build_native(root)
        built = native.build(root, os.environ)
        if built is not None:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{built.platform_tag}"
            build_data["artifacts"].extend(f"/{library}" for library in native.LIBRARIES)
        elif version == "editable":
            native.remove(root)  # those of an earlier install would be loaded
