"""What a user gets from the wheel: the command, the type marker and the data, and no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEFAULT_MODEL = ROOT / "model_store" / "artifacts" / "default"
# An environment of its own must not see this one through these.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of `command`, which must succeed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of a fresh environment with the wheel and its core dependencies."""
    venv = tmp_path_factory.mktemp("user") / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=venv.parent)
    return venv / "bin"


def test_the_wheel_holds_every_committed_file_of_its_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    packages = {name.split("/")[0] for name in shipped if name.endswith("/__init__.py")}
    committed = run("git", "ls-files", *sorted(packages), cwd=ROOT).split("\n")
    missing = {name for name in committed if name and (ROOT / name).exists()} - shipped
    assert {name for name in missing if not Path(name).name.startswith(".git")} == set()


def test_the_command_shows_its_help(installed: Path, tmp_path: Path) -> None:
    text = run(installed / "leeway", "--help", cwd=tmp_path)
    for command in ("serve", "ask", "models", "evaluate"):
        assert command in text


def test_torch_is_neither_installed_nor_needed(installed: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util as u, sys, server.app, server.cli; "
        "print(u.find_spec('torch'), u.find_spec('datasets'), 'torch' in sys.modules)"
    )
    assert run(installed / "python", "-c", program, cwd=tmp_path).split() == ["None", "None", "False"]


def test_the_server_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = Path(run(installed / "python", "-c", "import server; print(server.__file__)", cwd=tmp_path).strip())
    assert installed.parent in where.parents


@pytest.mark.skipif(not DEFAULT_MODEL.is_dir(), reason="no default model has been committed yet")
def test_the_packaged_model_verifies_and_answers(installed: Path, tmp_path: Path) -> None:
    context = tmp_path / "context.txt"
    context.write_text("The committee met in Lyon in March 1998. Anna Weber was in the chair.", encoding="utf-8")
    run(installed / "leeway", "models", "verify", "default", cwd=tmp_path)
    answer = run(installed / "leeway", "ask", "Where did the committee meet?", "--context-file", context, cwd=tmp_path)
    assert "Lyon" in answer
