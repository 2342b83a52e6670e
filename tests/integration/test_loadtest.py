"""A scenario as a user runs it: a real server with the fake engine, Locust headless in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_process import HOST, ServerProcess, free_port
from loadtest.limits import BROKEN, NOT_RUN, PASSED, VOID

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed (extra loadtest)"
)
LOCUSTFILE = Path(__file__).parents[2] / "loadtest" / "locustfile.py"
SCENARIO = """
name = "smoke"
about = "Five seconds."
[arrivals]
process = "poisson"
phases = [{ name = "slow", seconds = 3, rate = 4 }, { name = "fast", seconds = 2, rate = 8 }]
[[questions.lengths]]
label = "paragraph"
share = 0.7
[[questions.lengths]]
label = "long"
share = 0.3
chars = [500, 2000]
[[budgets]]
label = "loose"
share = 0.7
ms = 20000
[[budgets]]
label = "none"
share = 0.3
[generator]
max_lag_p99_ms = 5000  # the machine may be busy: what is tested is the way, not its times
warmup_seconds = 0.5
capacity_seconds = 1
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-c", "from server.cli import main; main()", "serve"]
    with ServerProcess([*command, "--engine", "fake", "--host", HOST, "--port", str(port)], port) as server:
        server.wait_ready(120)
        yield f"http://{HOST}:{port}"


def locust(url: str, folder: Path, scenario: str) -> tuple[int, str]:
    path = folder / "smoke.toml"
    path.write_text(scenario, encoding="utf-8")
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    options = ["--host", url, "--scenario", str(path), "--report-dir", str(folder)]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    return done.returncode, done.stdout + done.stderr


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "smoke.json").read_text(encoding="utf-8"))
    return found


def test_a_scenario_that_passes(url: str, tmp_path: Path) -> None:
    status, said = locust(url, tmp_path, SCENARIO + "[limits]\nmax_failed_share = 0.0\nmin_slo_attainment = 0.5\n")
    assert status == PASSED, said
    found = document(tmp_path)
    assert found["passed"] is True
    assert found["offered"] == sum(found["outcomes"].values()) > 10
    assert set(found["phases"]) == {"slow", "fast"}
    assert set(found["budgets"]) <= {"loose", "none"}
    served = found["outcomes"]["served_in_budget"] + found["outcomes"]["served_late"]
    assert sum(found["length_configs"].values()) == served > 0  # which of them: the table's matter
    assert found["server"]["engine"]["name"] == "fake"
    assert "<svg" in (tmp_path / "smoke.html").read_text(encoding="utf-8")


def test_a_broken_limit_is_status_1(url: str, tmp_path: Path) -> None:
    status, said = locust(url, tmp_path, SCENARIO + "[limits]\nmin_effective_f1 = 99\n")
    assert status == BROKEN, said
    assert [breach["limit"] for breach in document(tmp_path)["broken"]] == ["min_effective_f1"]


def test_a_generator_that_lags_is_status_3(url: str, tmp_path: Path) -> None:
    status, said = locust(url, tmp_path, SCENARIO.replace("max_lag_p99_ms = 5000", "max_lag_p99_ms = 0.000001"))
    assert status == VOID, said
    assert document(tmp_path)["passed"] is False


def test_a_search_finds_a_rate_in_units_of_the_measured_capacity(url: str, tmp_path: Path) -> None:
    scenario = SCENARIO.replace('process = "poisson"', 'process = "poisson"\nunit = "capacity"')
    scenario = (
        scenario.replace("rate = 4", "rate = 1").replace("rate = 8", "rate = 1").replace("seconds = 3", "seconds = 1")
    )
    search = "[search]\nstart = 0.02\ntolerance = 1.0\nmost_probes = 2\nattainment = 0.01\n[limits]\nmin_rate = 0.001\n"
    status, said = locust(url, tmp_path, scenario + search)
    assert status == PASSED, said
    found = document(tmp_path)
    assert found["capacity"]["rate"] > 0
    assert found["search"]["rate"] in {0.01, 0.02, 0.04}
    assert found["search"]["probes"]


def test_one_request_after_the_other(url: str, tmp_path: Path) -> None:
    head, _, tail = SCENARIO.partition("[arrivals]")
    rest = tail[tail.index("[[questions") :]
    status, said = locust(url, tmp_path, head + "[single_stream]\nseconds = 2\n" + rest)
    assert status == PASSED, said
    assert document(tmp_path)["offered"] > 1


def test_a_scenario_that_is_none_is_status_2(url: str, tmp_path: Path) -> None:
    status, said = locust(url, tmp_path, "surprise = 1\n")
    assert status == NOT_RUN
    assert "surprise" in said
