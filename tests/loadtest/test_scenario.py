from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadtest.scenario import SCENARIOS, ScenarioError, pinned, read_scenario
from tests.loadtest.makers import scenario

HEAD = 'name = "x"\nabout = "y"\n'
ARRIVALS = '[arrivals]\nprocess = "poisson"\nphases = [{ seconds = 1, rate = 1 }]\n'
BUDGETS = '[[budgets]]\nlabel = "a"\nshare = 1.0\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_come_along_are_sound(path: Path) -> None:
    found = read_scenario(path.stem)
    assert found.name == path.stem
    assert found.limits.model_dump(exclude_defaults=True), "a scenario without limits cannot fail"


def test_the_wanted_scenarios_are_there() -> None:
    names = {path.stem for path in SCENARIOS.glob("*.toml")}
    assert names >= {"server", "single_stream", "mixed_budgets", "overload", "soak", "generator"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HEAD + ARRIVALS + BUDGETS + "surprise = 1\n", "budgets[0].surprise"),
        (HEAD + ARRIVALS.replace("rate = 1", "rate = -1") + BUDGETS, "arrivals.phases[0].rate"),
        (HEAD + ARRIVALS.replace("rate = 1", 'rate = "1"') + BUDGETS, "arrivals.phases[0].rate"),
        (HEAD + ARRIVALS.replace("poisson", "weibull") + BUDGETS, "arrivals.process"),
        (HEAD + ARRIVALS.replace("poisson", "gamma") + BUDGETS, "cv"),
        (HEAD + ARRIVALS + BUDGETS.replace("1.0", "0.9"), "shares of budgets"),
        (HEAD + ARRIVALS + BUDGETS + "ms = 1.0\nx_full = 2.0\n", "budgets[0]"),
        (HEAD + ARRIVALS + BUDGETS + "[limits]\nmin_slo_attainment = 99\n", "limits.min_slo_attainment"),
        (HEAD + ARRIVALS + BUDGETS + "[limits.phases.late]\nmin_goodput = 1\n", "late"),
        (HEAD + ARRIVALS + BUDGETS + "[limits.max_latency_ms]\np42 = 1\n", "limits.max_latency_ms.p42"),
        (HEAD + ARRIVALS + BUDGETS + "[limits]\nmin_rate = 1\n", "min_rate"),
        (HEAD + ARRIVALS + BUDGETS + "[single_stream]\nseconds = 1\n", "single_stream"),
        (HEAD + BUDGETS, "arrivals"),
        (HEAD + ARRIVALS, "budgets"),
        (HEAD + ARRIVALS + BUDGETS + "[seeds]\narrivals = -1\n", "seeds.arrivals"),
        ("name = ", "no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_scenario(write(tmp_path, text))
    assert "some.toml" in str(caught.value)
    assert place in str(caught.value)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match="steady"):
        read_scenario("no-such")


def test_a_traces_file_lies_beside_its_scenario(tmp_path: Path) -> None:
    text = HEAD + '[arrivals]\nprocess = "trace"\nfile = "times.csv"\n' + BUDGETS
    arrivals = read_scenario(write(tmp_path, text)).arrivals
    assert arrivals is not None
    assert arrivals.file == tmp_path / "times.csv"


@pytest.mark.parametrize(
    "changes",
    [
        {"arrivals": {"process": "trace"}},
        {"arrivals": {"process": "trace", "file": "a", "unit": "capacity"}},
        {"arrivals": {"process": "trace", "file": "a"}, "search": {}},
        {"arrivals": None, "single_stream": {"seconds": 1}, "search": {}},
        {"arrivals": {"process": "poisson", "phases": [{"seconds": 1, "rate": 1}, {"seconds": 1, "rate": 2}]}},
        {"budgets": [{"label": "a", "share": 0.5}, {"label": "a", "share": 0.5}]},
        {"questions": {"lengths": [{"label": "a", "share": 1.0, "chars": [20, 10]}]}},
        {"headers": {"length_config": "a\r\nb: c"}},
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        scenario(**changes)


def test_what_is_relative_needs_the_capacity() -> None:
    assert not scenario().needs_capacity
    assert scenario(budgets=[{"label": "a", "share": 1.0, "x_full": 2}]).needs_capacity
    phases = [{"seconds": 1, "rate": 1}]
    assert scenario(arrivals={"process": "poisson", "unit": "capacity", "phases": phases}).needs_capacity


def test_a_pinned_scenario_has_the_header_and_a_name_of_its_own() -> None:
    plain = scenario()
    held = pinned(plain, "full")
    assert (held.name, held.headers.length_config) == (f"{plain.name}-full", "full")
    assert held.budgets == plain.budgets
    assert pinned(plain, "") is plain
    with pytest.raises(ScenarioError, match="no id of a length configuration"):
        pinned(plain, "two words")
