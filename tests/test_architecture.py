"""The house of the README holds: arrows one way, runtimes only where they belong, every documented command there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(folder.parent.name for folder in ROOT.glob("*/__init__.py") if folder.parent.name != "tests")
RUNTIMES = {"torch", "openvino", "intel_extension_for_pytorch"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_engines_import_nothing_of_the_house_but_the_model_store(imports: grimp.ImportGraph) -> None:
    engines = {"server.engine"} | imports.find_descendants("server.engine")
    strangers = {
        f"{engine} -> {imported}"
        for engine in engines
        for imported in imports.find_modules_directly_imported_by(engine)
        if imported.split(".")[0] in PACKAGES and imported.split(".")[0] != "model_store" and imported not in engines
    }
    assert strangers == set()


def test_each_runtime_stays_inside_one_engine(imports: grimp.ImportGraph) -> None:
    server = {"server"} | imports.find_descendants("server")
    uses = {
        (module, runtime)
        for module in server
        for runtime in RUNTIMES
        if imports.direct_import_exists(importer=module, imported=runtime)
    }
    assert all(module.startswith("server.engine.") for module, _ in uses), uses


def test_importing_the_server_loads_no_runtime() -> None:
    program = """
import importlib, pkgutil, sys
import server
engines = {"openvino", "reference", "ipex"}
for found in pkgutil.walk_packages(server.__path__, "server."):
    if found.name.startswith("server.engine.") and found.name.rpartition(".")[2].split("_")[0] in engines:
        continue
    importlib.import_module(found.name)
assert "server.cli" in sys.modules
print(sorted({"torch", "openvino", "intel_extension_for_pytorch", "trainer", "datasets"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_every_package_is_shipped_and_checked(pyproject: dict[str, Any]) -> None:
    tool = pyproject["tool"]
    assert set(PACKAGES) <= set(tool["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert set(PACKAGES) | {"tests", "hatch_build.py", "scripts/build_native.py"} == set(tool["mypy"]["files"])
    assert set(PACKAGES) == set(tool["importlinter"]["root_packages"])


def test_every_rule_that_is_switched_off_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.pydocstyle]")]
    switched_off = re.findall(r'^ {4}"[A-Z]+\d*",.*$', lint, flags=re.MULTILINE)
    assert switched_off
    assert [line for line in switched_off if " # " not in line] == []


@pytest.mark.parametrize("page", ["README.md", ".ci/run"])
def test_every_make_command_that_is_written_down_exists(page: str) -> None:
    targets = set(re.findall(r"^([.a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text, flags=re.MULTILINE)
    commands = {first or second for first, second in named}
    assert commands
    assert commands <= targets
