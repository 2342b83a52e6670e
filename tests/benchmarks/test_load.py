"""What the load benchmark makes of its reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import ROUND, Generator, Play, breaches, shown, slope_mb_a_minute
from benchmarks.report import Document
from benchmarks.server_process import BenchmarkError


def report(attainment: float, f1: float = 76.0, rate: float | None = None, goodput: float = 90.0) -> Document:
    phases = {"overload": {"goodput": goodput}, "after": {"slo_attainment": attainment}}
    return {
        "slo_attainment": attainment,
        "effective_f1": f1,
        "phases": phases,
        "search": None if rate is None else {"offered_rate": rate},
    }


def runs(**changed: Document) -> dict[str, list[Document]]:
    good = {
        "load_70": report(1.0, 75.0),
        "load_70_full": report(1.0, 76.0),
        "load_120": report(0.98),
        "load_120-full": report(0.80),
        "overload": report(1.0),
        "server": report(0.99, rate=80.0),
        "server-full": report(0.99, rate=40.0),
    }
    assert set(good) == {play.name for play in ROUND}
    return {name: [found] for name, found in {**good, **changed}.items()}


def broken(**changed: Document) -> list[str]:
    return breaches({name: each["median"] for name, each in shown(runs(**changed), [100.0], [45.0]).items()})


def test_a_server_that_keeps_its_promises_breaks_no_limit() -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("name", "found", "word"),
    [
        ("load_70", report(0.98, 75.0), "load_70_attainment"),
        ("load_70", report(1.0, 73.9), "load_70_f1_lost"),
        ("load_120", report(0.89), "load_120_attainment_gained"),
        ("overload", report(1.0, goodput=84.0), "overload_goodput_of_cheapest"),
        ("overload", report(0.98), "overload_attainment_after"),
        ("server", report(0.99, rate=70.0), "server_rate_of_what_times_allow"),
    ],
)
def test_every_limit_can_be_broken(name: str, found: Document, word: str) -> None:
    (breach,) = broken(**{name: found})
    assert breach.startswith(word)


def test_a_search_that_found_no_rate_breaks_its_limit() -> None:
    nothing = report(0.5)
    nothing["search"] = {"offered_rate": None}
    assert len(broken(server=nothing)) == 1


def test_of_what_was_not_played_nothing_is_shown_and_no_limit_broken() -> None:
    every = shown(runs(), [100.0], [45.0])
    bad = {"load_70": report(0.98, 70.0), "load_70_full": report(1.0, 76.0)}
    some = shown({name: [each] for name, each in bad.items()}, [100.0], [45.0])
    assert set(some) == {"load_70_attainment", "load_70_f1_lost"} < set(every)
    assert len(breaches({name: each["median"] for name, each in some.items()})) == 2
    assert shown({"load_120": [report(0.98)]}, [100.0], [45.0]) == {}


def test_limits_are_on_medians_and_every_run_is_kept() -> None:
    found = runs()
    found = {name: each * 3 for name, each in found.items()}
    found["load_70"] = [report(0.5, 75.0), report(1.0, 75.0), report(1.0, 75.0)]
    figures = shown(found, [100.0] * 3, [45.0] * 3)
    assert figures["load_70_attainment"] == {"median": 1.0, "all": [0.5, 1.0, 1.0]}


def test_memory_is_looked_at_once_it_has_settled() -> None:
    rising = [(minute / 2, 500.0 + 100.0 * (minute < 10) + 0.2 * minute) for minute in range(40)]
    assert slope_mb_a_minute(rising) == pytest.approx(0.4)
    with pytest.raises(BenchmarkError, match="3 readings"):
        slope_mb_a_minute(rising[:12])


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    server: Any = None
    return Generator(server, tmp_path, tmp_path)


def ends_with(monkeypatch: pytest.MonkeyPatch, *statuses: int) -> None:
    """What stands in for Locust ends with these, one after the other, and leaves a report that says which."""
    left = list(statuses)

    def locust(self: Generator, play: Play, draw: int) -> subprocess.CompletedProcess[str]:
        status = left.pop(0)
        (self.folder / str(draw)).mkdir(exist_ok=True)
        (self.folder / str(draw) / f"{play.name}.json").write_text(json.dumps({"left": len(left)}), encoding="utf-8")
        return subprocess.CompletedProcess([], status, "", "the generator lagged")

    monkeypatch.setattr(Generator, "_locust", locust)


def test_a_void_run_is_made_again_and_said(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with(monkeypatch, 3, 3, 1)
    assert generator.play(Play("load_70"), 4, most_void=2) == {"left": 0}
    assert generator.void == ["4/load_70"] * 2


@pytest.mark.parametrize(("statuses", "most"), [((3,), 0), ((3, 3, 3), 2), ((2,), 3)])
def test_what_stays_void_or_cannot_be_made_is_an_error(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, ...], most: int
) -> None:
    ends_with(monkeypatch, *statuses)
    with pytest.raises(BenchmarkError, match=f"status {statuses[-1]}:\nthe generator lagged"):
        generator.play(Play("load_70"), 0, most_void=most)


def test_a_soak_is_not_given_other_scenarios_to_play(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "--data", str(data), "--soak", "--only", "load_70"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "leave out --only" in done.stderr
