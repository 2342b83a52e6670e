"""Which figures break which limit, and how a benchmark ends then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import benchmarks.__main__ as bench
from benchmarks import first_answer, footprint, parity, report
from benchmarks.server_process import BenchmarkError, memory_mb
from benchmarks.trend import Trend
from benchmarks.workload import EXCERPT

FLAT = Trend(slope=0.1, standard_error=0.2, growth=1.0)


def seen(**changes: Any) -> footprint.Observed:
    values: dict[str, Any] = {"ready_seconds": 3.0, "ready_rss_mb": 380.0, "rss_mb": [390.0, 400.0], "counts": [1, 2]}
    return footprint.Observed(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "trend", "named"),
    [
        ({}, FLAT, []),
        ({"ready_seconds": 15.1}, FLAT, ["ready after"]),
        ({"rss_mb": [701.0, 400.0]}, FLAT, ["701 MB"]),
        ({}, Trend(slope=6.0, standard_error=1.0, growth=6.0), ["growing"]),
        ({"errors": {"503": 2}, "exit_status": 1}, FLAT, ["503", "exit status 1"]),
    ],
)
def test_each_limit_of_the_footprint_is_named_when_broken(
    changes: dict[str, Any], trend: Trend, named: list[str]
) -> None:
    broken = footprint.breaches(seen(**changes), trend, footprint.FootprintOptions())
    assert len(broken) == len(named)
    assert all(words in breach for words, breach in zip(named, broken, strict=True))


def test_the_footprint_document_is_json_and_agrees_with_its_readings() -> None:
    counts = list(range(50, 401, 50))
    found = footprint.document(
        seen(counts=counts, rss_mb=[400.0] * 8, lengths=[10, 30], windows=[1], seconds=2.0),
        footprint.FootprintOptions(requests=400),
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["rss_mb"] == {"ready": 380.0, "half": 400.0, "end": 400.0, "greatest": 400.0, "peak": 0.0}
    assert found["requests_per_second"] == 200.0
    assert found["context_chars"] == {"min": 10, "median": 20.0, "mean": 20.0, "max": 30}


@pytest.mark.parametrize(
    ("difference", "share", "count"),
    [(0.5, 1.0, 0), (-0.51, 1.0, 1), (0.51, 1.0, 1), (0.0, 0.99, 1), (0.0, None, 1), (2.0, 0.5, 2)],
)
def test_each_limit_of_parity_is_named_when_broken(difference: float, share: float | None, count: int) -> None:
    compared = {"engine": "openvino", "f1_difference": {"mean": difference}, "best_span": {"same_when_clear": share}}
    assert len(parity.breaches(compared, parity.ParityOptions())) == count


def test_a_broken_limit_ends_with_status_1_and_the_document_last(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        report.finish({"broken": ["too slow"]})
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1]) == {"broken": ["too slow"]}
    assert "too slow" in printed.err


def test_a_missing_data_file_is_told_in_words_that_help(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench.bench)
    done = CliRunner().invoke(app, [], env={"DATA": str(tmp_path / "none.json")})
    assert done.exit_code == 2
    assert "no data file" in done.output
    assert "DATA=FILE" in done.output


def test_the_committed_excerpt_is_there() -> None:
    assert EXCERPT.is_file()


def test_memory_is_read_in_mb_of_a_million_bytes(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tleeway\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\n", encoding="utf-8")
    assert memory_mb(7, tmp_path) == (1.024, 2.048)
    with pytest.raises(BenchmarkError, match="process 8"):
        memory_mb(8, tmp_path)


def test_the_empty_environment_keeps_the_way_to_packages_and_nothing_else() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/someone",
        "VIRTUAL_ENV": "/venv",
        "LEEWAY_PORT": "1",
        "PIP_INDEX_URL": "https://index.example",
        "PIP_CACHE_DIR": "/cache",
        "HTTPS_PROXY": "http://proxy.example",
    }
    kept = first_answer.empty_environment(given, Path("/new"))
    assert kept == {
        "PATH": "/bin",
        "HOME": "/new",
        "LANG": "C.UTF-8",
        "PIP_INDEX_URL": "https://index.example",
        "HTTPS_PROXY": "http://proxy.example",
    }


@pytest.mark.parametrize(("seconds", "answer", "count"), [(300.0, "a", 0), (300.1, "a", 1), (400.0, "b", 2)])
def test_the_first_answer_must_be_right_and_in_time(seconds: float, answer: str, count: int) -> None:
    found = {"first_answer_seconds": seconds, "answer": answer, "expected": "a"}
    assert len(first_answer.breaches(found, 300.0)) == count
