"""The engine ipex for real, in an environment of its own: contract, arithmetic, answers, and the choice of `auto`.

Name the Python of an environment that has ``.[ipex]``, pytest, pytest-asyncio and hypothesis in
``LEEWAY_IPEX_PYTHON`` to save the installation, which takes minutes and, with PyPI's torch, 7 GB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.engine.processor import multiplies_int8_exactly

ROOT = Path(__file__).parents[2]
EXCERPT = ROOT / "tests" / "data" / "squad-dev-excerpt.json.gz"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
NOT_TO_BE_HAD = (
    "No matching distribution",
    "Could not find a version",
    "Failed to establish a new connection",
    "No space left on device",
)


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def succeed(*command: str | Path) -> str:
    done = run(*command)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def install(*command: str | Path) -> None:
    done = run(*command)
    if done.returncode and any(sign in done.stderr for sign in NOT_TO_BE_HAD):
        pytest.skip(f"torch 2.8.0 and IPEX cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the extra `ipex`."""
    if not multiplies_int8_exactly():
        pytest.skip("the engine ipex refuses a processor without VNNI or AMX")
    given = os.environ.get("LEEWAY_IPEX_PYTHON")
    if given:
        return Path(given)
    if sys.version_info >= (3, 14):
        pytest.skip("there is no torch 2.8.0 for this Python")
    venv = tmp_path_factory.mktemp("ipex") / "venv"
    succeed(sys.executable, "-m", "venv", venv)
    found = venv / "bin" / "python"
    install("sh", "scripts/install_torch.sh", found, "2.8.0")
    packages = ("--editable", ".[ipex]", "pytest>=9.0,<10", "pytest-asyncio>=1.3,<2", "hypothesis>=6.122,<7")
    install(found, "-m", "pip", "install", "--quiet", *packages)
    return found


def test_the_contract_and_the_arithmetic_hold_with_ipex(python: Path) -> None:
    found = succeed(python, "-c", "from server.engine import installed_engines; print(*installed_engines())")
    assert found.split() in (["native", "openvino", "ipex"], ["openvino", "ipex"])  # no kernels for this platform
    files = ("tests/server/test_engine_contract.py", "tests/server/test_ipex.py")
    told = succeed(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-k", "ipex", *files)
    summary = told.strip().splitlines()[-1]
    assert " passed" in summary
    assert "skipped" not in summary


@pytest.mark.parametrize(("config", "agreement"), [("full", "1.0"), ("c01", "0.95")])
def test_ipex_and_openvino_answer_alike_from_the_default_model(python: Path, config: str, agreement: str) -> None:
    """Every clear question alike; where dropping is nearly a toss-up between two tokens, they may drop another."""
    engines = ("--engine", "ipex", "--against", "openvino", "--config", config, "--threads", "1")
    limits = ("--max-f1-difference", "3", "--min-agreement", agreement)  # 48 questions: one answer moves F1 by up to 2
    told = succeed(python, "-m", "benchmarks.parity", "--data", EXCERPT, *engines, *limits)
    document = json.loads(told.splitlines()[-1])
    assert [each["engine"] for each in document["engines"]] == ["ipex", "openvino"]
    assert document["questions"] >= 40
    assert document["against_reference"][0]["best_span"]["same"] >= 0.9


def test_auto_measures_both_and_says_so(python: Path) -> None:
    program = (
        "from server.model import load_model; from server.settings import Settings; "
        "model = load_model(Settings(engine='auto', threads=1, profile_dir=None), warm_up=False); "
        "print(model.engine.info.name, model.engine_reason, sep='\\n')"
    )
    name, reason = succeed(python, "-c", program).splitlines()[-2:]
    assert reason.startswith(f"fastest measured at start-up: {name} ")
    assert "openvino" in reason
    assert "ipex" in reason
