from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.simulate import SimulateOptions, document, run_all
from benchmarks.simulate import simulate as command
from benchmarks.simulation.checks import checks
from benchmarks.simulation.plots import plot
from benchmarks.simulation.scores import Scores
from benchmarks.simulation.tables import table, traces_document
from benchmarks.simulation.world import World, example_profile, example_table


def found(f1: float, *, late: float = 0.0, **more: float) -> Scores:
    return Scores(f1, 90.0, late, 50.0, {"default": late}, f1_by_second=(f1, f1), offered_by_second=(1, 1), **more)  # type: ignore[arg-type]


def seeds(ours: float, fixed: float, other: float, oracle: float) -> list[dict[str, Scores]]:
    return [
        {"leeway": found(ours), "fixed_full": found(fixed), "slackfit": found(other), "oracle": found(oracle)},
        {"leeway": found(ours + 5), "fixed_full": found(fixed), "slackfit": found(other), "oracle": found(oracle + 5)},
    ]


def test_the_worst_seed_decides() -> None:
    results = {"poisson_100": seeds(77.0, 70.0, 76.0, 78.0)}
    by_text = {each.text.split(" (")[0]: each for each in checks(results)}
    above = by_text["effective F1 above the best baseline"]
    assert above.figure == pytest.approx(1.0)
    assert "slackfit" in above.text
    closed = by_text["gap from the best baseline to oracle closed"]
    assert closed.figure == pytest.approx(0.5)
    assert closed.holds


def test_a_baseline_may_be_better_by_no_more_than_the_margin() -> None:
    assert all(each.holds for each in checks({"poisson_130": seeds(75.8, 70.0, 76.0, 78.0)}))
    assert [each.holds for each in checks({"poisson_130": seeds(75.6, 70.0, 76.0, 78.0)})] == [False, True]


def test_three_points_above_the_best_fixed_where_asked() -> None:
    assert [each.holds for each in checks({"diurnal": seeds(72.9, 70.0, 71.0, 78.0)})] == [True, False, True]


def test_a_gap_of_nothing_is_closed() -> None:
    assert all(each.holds for each in checks({"poisson_50": seeds(80.0, 79.0, 80.0, 80.01)}))


def test_late_shares_are_per_class_and_the_slow_host_has_limits_of_its_own() -> None:
    late = {"poisson_130": [{"leeway": found(70.0, late=1.5)}], "slow_2x": [{"leeway": found(70.0, late=1.5)}]}
    assert [(each.trace, each.holds) for each in checks(late)] == [("poisson_130", False)]
    slow = {"slow_2x": [{"leeway": found(70.0, late=1.5, late_settling=4.0, late_settled=1.0)}]}
    assert [each.holds for each in checks(slow)] == [True, False]


def test_the_step_needs_goodput() -> None:
    assert [each.holds for each in checks({"step_300": [{"leeway": found(70.0, step_goodput=89.0)}]})] == [True, False]


def test_without_our_policy_nothing_is_checked() -> None:
    assert checks({"poisson_50": [{"fixed_full": found(70.0)}]}) == []


def test_table_and_document_have_medians_and_all_seeds() -> None:
    results = {"poisson_100": seeds(77.0, 70.0, 76.0, 78.0)}
    lines = list(table("poisson_100", results["poisson_100"]))
    assert len(lines) == 2 + 4
    assert "79.50 [ 77.00 ..  82.00]" in lines[2]
    entry = traces_document(results)["poisson_100"]["leeway"]
    assert entry["effective_f1"] == 79.5
    assert [each["effective_f1"] for each in entry["seeds"]] == [77.0, 82.0]


def test_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = plot({"poisson_100": seeds(77.0, 70.0, 76.0, 78.0)}, tmp_path / "plots")
    assert [each.name for each in written] == ["effective_f1.png", "poisson_100.png"]
    assert all(each.stat().st_size > 1000 for each in written)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no trace 'nothing'"):
        SimulateOptions(traces=("nothing",))
    with pytest.raises(ValueError, match="no policy 'magic'"):
        SimulateOptions(policies=("magic",))


def test_all_seeds_run_in_processes_of_their_own() -> None:
    example = example_table()
    here = World(example, example_profile(example), "example", "example")
    options = SimulateOptions(("poisson_50",), ("leeway", "oracle"), seeds=2, seconds=1.0, workers=1)
    results = run_all(here, options)
    entry = document(here, results, options)["traces"]["poisson_50"]
    assert set(entry) == {"leeway", "oracle"}
    for name in ("effective_f1", "slo_attainment", "late_share", "goodput"):
        assert math.isfinite(entry["leeway"][name])
    assert len(entry["leeway"]["seeds"]) == 2


def test_the_last_line_is_the_document(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "out.json"
    given = ["--quick", "--traces", "poisson_50", "--policies", "fixed_cheapest", "--workers", "1", "--json", str(out)]
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 0, ran.output
    last = json.loads(ran.stdout.splitlines()[-1])
    assert last == json.loads(out.read_text())
    assert set(last["traces"]["poisson_50"]) == {"fixed_cheapest"}
