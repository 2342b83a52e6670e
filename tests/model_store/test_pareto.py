"""The Pareto table and the cost of a configuration."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store import Architecture, LengthConfiguration, ParetoPoint, ParetoTable, full_configuration, macs, macs_at
from model_store import errors as e
from model_store.pareto import parse_table
from model_store.skimmer import skimmer_macs
from tests.model_store.tiny_artifact import tiny_table

MINILM = Architecture(layers=6, hidden=384, heads=12, intermediate=1536, vocabulary=30522, positions=512)
BERT = Architecture(layers=12, hidden=768, heads=12, intermediate=3072, vocabulary=30522, positions=512)


def point(name: str, cost: float, f1: float, ratio: float = 0.5) -> ParetoPoint:
    return ParetoPoint(LengthConfiguration(name, (ratio, ratio)), cost, f1, 50.0)


def full(cost: float, f1: float) -> ParetoPoint:
    return ParetoPoint(full_configuration(2), cost, f1, 50.0)


@st.composite
def tables(draw: st.DrawFn) -> ParetoTable:
    count = draw(st.integers(1, 8))
    steps = st.floats(0.5, 1e9)
    costs = sorted(draw(st.lists(steps, min_size=count, max_size=count, unique=True)))
    scores = sorted(draw(st.lists(st.floats(0.0, 100.0), min_size=count, max_size=count, unique=True)))
    cheap = [point(f"c{count - 1 - i:02d}", costs[i], scores[i]) for i in range(count - 1)]
    return ParetoTable((*cheap, full(costs[-1], draw(st.floats(0.0, 100.0)))), draw(st.floats(1.0, 512.0)))


@given(tables())
def test_a_table_survives_the_disk_unchanged(table: ParetoTable) -> None:
    assert parse_table(table.to_json(), "table") == table


def with_exempt_tokens() -> ParetoTable:
    cheap = ParetoPoint(LengthConfiguration("c01", (0.5, 0.0), exempt_tokens=16), 1.0, 50.0, 40.0)
    return ParetoTable((cheap, full(2.0, 60.0)), 40.0)


def test_exempt_tokens_survive_the_disk_in_a_table_that_older_readers_refuse() -> None:
    table = with_exempt_tokens()
    assert json.loads(table.to_json())["format_version"] == 2
    assert parse_table(table.to_json(), "table") == table


def test_a_table_without_exempt_tokens_stays_readable_to_older_readers() -> None:
    written = json.loads(ParetoTable((full(2.0, 60.0),), 40.0).to_json())
    assert written["format_version"] == 1
    assert "exempt_tokens" not in written["points"][0]


def skimming() -> ParetoTable:
    cheap = ParetoPoint(LengthConfiguration("c01", (1.0, 0.5), input_ratio=0.4), 1.0, 50.0, 40.0)
    return ParetoTable((cheap, full(2.0, 60.0)), 40.0)


def test_input_ratios_survive_the_disk_in_a_table_that_older_readers_refuse() -> None:
    table = skimming()
    assert json.loads(table.to_json())["format_version"] == 3
    assert parse_table(table.to_json(), "table") == table
    assert (table.skims, with_exempt_tokens().skims) == (True, False)


@pytest.mark.parametrize(("version", "ratio"), [(2, 0.5), (2, 1.0), (3, 0.0), (3, 1.1), (3, None), (3, "half")])
def test_input_ratios_that_are_refused(version: int, ratio: object) -> None:
    written = json.loads(skimming().to_json())
    written["format_version"] = version
    written["points"][0]["input_ratio"] = ratio
    with pytest.raises(e.InvalidTableError, match=r"input.ratio"):
        parse_table(json.dumps(written).encode(), "table")


@pytest.mark.parametrize(("version", "exempt"), [(1, 16), (1, 0), (2, -1), (2, 1.5), (2, True), (2, None)])
def test_exempt_tokens_that_are_refused(version: int, exempt: object) -> None:
    written = json.loads(with_exempt_tokens().to_json())
    written["format_version"] = version
    written["points"][0]["exempt_tokens"] = exempt
    with pytest.raises(e.InvalidTableError, match="exempt"):
        parse_table(json.dumps(written).encode(), "table")


@given(tables())
def test_cost_rises_and_no_frontier_point_is_dominated(table: ParetoTable) -> None:
    assert all(a.macs < b.macs for a, b in pairwise(table.points))
    assert not any(b.dominates(a) for a in table.frontier for b in table.points)
    assert set(table.points) - set(table.frontier) <= {table.full}
    assert all(table.point(entry.id) is entry for entry in table.points)


@given(tables(), st.randoms(use_true_random=False))
def test_another_order_is_refused(table: ParetoTable, random: Any) -> None:
    shuffled = list(table.points)
    random.shuffle(shuffled)
    if tuple(shuffled) != table.points:
        with pytest.raises(e.InvalidTableError):
            ParetoTable(tuple(shuffled), 40.0)


@pytest.mark.parametrize(
    "points",
    [
        (),
        (point("c01", 1.0, 50.0),),
        (full(2.0, 60.0), point("c01", 3.0, 70.0)),
        (point("full", 2.0, 60.0),),
        (point("c02", 1.0, 50.0), point("c01", 2.0, 50.0), full(3.0, 60.0)),
        (point("c02", 1.0, 50.0), point("c01", 1.0, 55.0), full(3.0, 60.0)),
        (point("c01", 1.0, 50.0), point("c02", 2.0, 55.0), full(3.0, 60.0)),
        (point("c01", 1.0, 50.0), point("c01", 2.0, 55.0), full(3.0, 60.0)),
        (point("fast", 1.0, 50.0), full(3.0, 60.0)),
        (ParetoPoint(LengthConfiguration("c01", (0.5,)), 1.0, 50.0, 40.0), full(3.0, 60.0)),
    ],
    ids=["empty", "no full", "full not last", "full drops", "dominated", "equal cost", "ids rise", "id twice",
         "other id", "other depth"],
)  # fmt: skip
def test_tables_that_are_refused(points: tuple[ParetoPoint, ...]) -> None:
    with pytest.raises(e.InvalidTableError):
        ParetoTable(points, 40.0)


def test_full_stays_as_the_reference_even_where_it_is_dominated() -> None:
    table = ParetoTable((point("c01", 1.0, 90.0), full(2.0, 80.0)), 40.0)
    assert table.full.held_out_f1 == 80.0
    assert [entry.id for entry in table.frontier] == ["c01"]


def test_unknown_configuration_says_which_there_are() -> None:
    with pytest.raises(e.UnknownConfigurationError, match="c01, full"):
        tiny_table().point("c09")


@pytest.mark.parametrize(
    ("key", "value"),
    [("macs", 0), ("macs", "1"), ("held_out_f1", 101), ("held_out_exact_match", None), ("ratios", [0.5, 0.6]),
     ("ratios", ["1", "1"]), ("ratios", [10**400, 1]), ("held_out_f1_interval", [1]),
     ("held_out_f1_interval", [80, 70]), ("dev_f1", -1), ("id", 3)],
)  # fmt: skip
def test_point_with_a_wrong_field(key: str, value: object) -> None:
    table = json.loads(tiny_table().to_json())
    table["points"][0][key] = value
    with pytest.raises(e.InvalidTableError):
        parse_table(json.dumps(table).encode(), "table")


def test_table_of_an_unknown_format_version() -> None:
    with pytest.raises(e.UnknownFormatVersionError, match="supported: 1"):
        parse_table(b'{"format_version": 4}', "table")


def test_unknown_keys_of_points_are_ignored() -> None:
    table = json.loads(tiny_table().to_json())
    table["points"][0]["per_bucket"] = {}
    assert parse_table(json.dumps(table).encode(), "table") == tiny_table()


@pytest.mark.parametrize(
    ("architecture", "kept", "published"),
    [
        (MINILM, (384,) * 6, 4.76e9),
        (MINILM, (269, 253, 252, 202, 104, 34), 2.49e9),
        (MINILM, (315, 251, 242, 159, 142, 33), 2.55e9),
        (BERT, (384,) * 12, 35.3e9),
    ],
)
def test_cost_agrees_with_the_published_figures(
    architecture: Architecture, kept: tuple[int, ...], published: float
) -> None:
    assert macs(architecture, 384, kept) == pytest.approx(published, rel=0.005)


def test_a_skimmed_text_costs_what_the_layers_see_of_it_and_the_skimmer_all_of_it() -> None:
    skimming = LengthConfiguration("c01", (1.0, 1.0, 1.0, 1.0, 0.5, 0.5), input_ratio=0.5)
    assert skimming.input_tokens(160) == 80
    layers = macs(MINILM, 80, (80, 80, 80, 80, 40, 40))
    assert macs_at(MINILM, 160, skimming) == layers + skimmer_macs(160)
    assert macs_at(MINILM, 160, full_configuration(6)) == macs(MINILM, 160, (160,) * 6)
    assert skimmer_macs(160) < 0.005 * macs(MINILM, 160, (160,) * 6)


def test_cost_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="6 layers"):
        macs(MINILM, 384, (384,) * 5)
