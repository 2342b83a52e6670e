"""The README's table out of a small document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.peers import __main__ as command
from benchmarks.peers import readme
from benchmarks.server_process import BenchmarkError

ROOT = Path(__file__).parents[3]


def system(name: str, f1: float | None, p50: float) -> dict[str, Any]:
    times = {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "questions_per_second": 1000 / p50}
    return {"name": name, "what": f"what {name} is", "f1": f1, **times, "rss_mb": 500.4, "padded": None}


@pytest.fixture
def document() -> dict[str, Any]:
    ratios = dict.fromkeys(readme._RATIOS)
    return {
        "benchmark": "peers",
        "model": "default@2",
        "data": "dev.json",
        "questions": 1000,
        "timed": 100,
        "runs": 5,
        "threads": 2,
        "processor": "a processor",
        "mean_tokens": 170.2,
        "within1": "c01",
        "int8_peak_gmacs": 430.2,
        "systems": [
            system("bert_fp32", None, 200.0),
            {**system("openvino/full", 82.654, 8.0), "padded": {"p50_ms": 20.04}},
        ],
        "ratios": {**ratios, "bert_fp32/full": 25.004, "bert_fp32/within1": 36.1, "int8_peak_share": 0.512},
        "intervals": {"bert_fp32/full": {"interval": [24.0, 26.0]}, "bert_fp32/within1": {"interval": [35.0, 37.0]}},
        "broken": ["bert_int8/full was not measured"],
    }


def test_a_block_holds_whole_tables_between_its_markers(document: dict[str, Any]) -> None:
    lines = readme.block(document).splitlines()
    assert (lines[0], lines[-1]) == (readme.BEGIN, readme.END)
    assert "| what bert_fp32 is | time only | 200.0 | 400.0 | 600.0 | 5.0 | 500 |  |" in lines
    assert "| what openvino/full is | 82.65 | 8.0 | 16.0 | 24.0 | 125.0 | 500 | 20.0 |" in lines
    assert "| BERT-base fp32, torch eager, over `full` | 25.00 | 24.00 to 26.00 |" in lines
    assert "| the same over `c01` | 36.10 | 35.00 to 37.00 |" in lines
    assert "| share of the int8 peak (430 GMAC/s) | 0.51 | |" in lines
    tables = "\n".join(lines[1:-1]).split("\n\n")[1:]
    assert [{line.count("|") for line in table.splitlines()} for table in tables] == [{9}, {4}]


def test_of_a_length_adaptive_system_the_table_shows_three_configurations(document: dict[str, Any]) -> None:
    ids = ("full", "c01", "c02", "c03")
    document["systems"] = [system("static", 80.0, 9.0), *(system(f"openvino/{each}", 80.0, 8.0) for each in ids)]
    text = readme.block(document)
    assert [each for each in ("static", *ids) if f"{each} is |" in text] == ["static", "full", "c01", "c03"]


def test_only_what_stands_between_the_markers_is_rewritten(tmp_path: Path, document: dict[str, Any]) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    readme.write(document, file)
    once = file.read_text(encoding="utf-8")
    assert once == f"before\n{readme.block(document)}\nafter\n"
    readme.write(document, file)
    assert file.read_text(encoding="utf-8") == once


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", 2 * f"{readme.BEGIN}{readme.END}"])
def test_a_file_without_its_markers_is_left_alone(tmp_path: Path, document: dict[str, Any], text: str) -> None:
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkError, match="must hold the lines"):
        readme.write(document, file)
    assert file.read_text(encoding="utf-8") == text


def test_this_projects_readme_has_the_markers(tmp_path: Path, document: dict[str, Any]) -> None:
    file = tmp_path / "README.md"
    file.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    readme.write(document, file)


def test_the_command_takes_a_document_measured_before(tmp_path: Path, document: dict[str, Any]) -> None:
    source, file = tmp_path / "peers.json", tmp_path / "README.md"
    source.write_text(json.dumps(document), encoding="utf-8")
    file.write_text(f"{readme.BEGIN}\n{readme.END}\n", encoding="utf-8")
    app = typer.Typer()
    app.command()(command.peers)
    done = CliRunner().invoke(app, ["--from", str(source), "--write-readme", str(file)])
    assert done.exit_code == 1  # it says that a limit was broken
    assert json.loads(done.stdout.splitlines()[-1]) == document
    assert file.read_text(encoding="utf-8").strip() == readme.block(document)
    source.write_text("{}", encoding="utf-8")
    assert CliRunner().invoke(app, ["--from", str(source)]).exit_code == 2


def test_the_picture_shows_everyone(tmp_path: Path, document: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.peers import plot

    plot.draw(document, tmp_path / "deep" / "peers.svg")
    text = (tmp_path / "deep" / "peers.svg").read_text(encoding="utf-8")
    assert "bert_fp32 (time only)" in text
    assert "openvino" in text
