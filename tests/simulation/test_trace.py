from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation.host import Host, StallRate
from benchmarks.simulation.trace import MIXED_BUDGETS, NO_BUDGET, SPECS, make_trace
from benchmarks.simulation.world import (
    FEWEST_POINTS,
    MEAN_LENGTH,
    World,
    example_profile,
    example_table,
    length_mix,
    lengths_at,
    load_world,
)
from server.settings import packaged_store


@pytest.fixture(scope="module")
def example() -> World:
    table = example_table()
    return World(table, example_profile(table), "example", "example")


@pytest.mark.parametrize("name", SPECS)
def test_a_trace_is_the_same_for_the_same_seed_and_another_for_another(name: str, example: World) -> None:
    one, same, other = (make_trace(name, seed, example, seconds=5.0) for seed in (3, 3, 4))
    assert one.arrival_ns.tolist() == same.arrival_ns.tolist()
    assert one.windows == same.windows
    assert one.residual.tolist() == same.residual.tolist()
    assert one.budget_ns.tolist() == same.budget_ns.tolist()
    assert one.arrival_ns.tolist() != other.arrival_ns.tolist()
    assert one.windows != other.windows
    assert (np.diff(one.arrival_ns) >= 0).all()


@pytest.mark.parametrize(
    ("name", "percent"),
    [("poisson_50", 50.0), ("poisson_130", 130.0), ("step_300", 50 + 250 * 5 / 60), ("diurnal", 105.0)],
)
def test_the_mean_rate_is_the_stated_one(name: str, percent: float, example: World) -> None:
    trace = make_trace(name, 0, example)
    expected = percent / 100 * example.capacity * trace.seconds
    assert len(trace) == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_step_is_where_it_is_said_to_be(example: World) -> None:
    trace = make_trace("step_300", 1, example)
    assert trace.step is not None
    inside = (trace.seconds_of_arrival >= trace.step[0]) & (trace.seconds_of_arrival < trace.step[1])
    assert inside.sum() / 5.0 == pytest.approx(3 * example.capacity, rel=0.1)


def test_bursts_have_the_stated_variation_over_many_seeds(example: World) -> None:
    gaps = np.concatenate([np.diff(make_trace("burst_cv4", seed, example).arrival_ns) for seed in range(5)])
    assert gaps.std() / gaps.mean() == pytest.approx(4.0, rel=0.15)
    assert 1e9 / gaps.mean() == pytest.approx(0.8 * example.capacity, rel=0.15)


def test_budgets_have_the_stated_shares_and_sizes(example: World) -> None:
    trace = make_trace("mixed_budgets", 0, example)
    assert trace.labels == ("tight", "medium", "loose", "none")
    for index, each in enumerate(MIXED_BUDGETS):
        of_class = trace.group == index
        assert of_class.mean() == pytest.approx(each.share, abs=0.03)
        wanted = NO_BUDGET if each.budget is None else int(each.budget * example.unit_budget_ns)
        assert set(trace.budget_ns[of_class].tolist()) == {wanted}


def test_lengths_have_the_stated_mean_and_few_need_two_windows() -> None:
    mix = length_mix()
    single = [windows[0] for windows in mix if len(windows) == 1]
    assert np.mean(single) == pytest.approx(MEAN_LENGTH, rel=0.03)
    assert 0.002 < np.mean([len(windows) == 2 for windows in mix]) < 0.02
    assert max(len(windows) for windows in mix) == 2
    assert lengths_at(np.array([1 - 1e-12])) == [(384, 600 - 384 + 128 + 16)]


def test_capacity_is_one_over_the_mean_time_of_full(example: World) -> None:
    times = [example.inference_ns(windows)[-1] for windows in length_mix()]
    assert example.capacity == pytest.approx(1e9 / (np.mean(times) * np.mean(example.profile.residuals)))


def test_an_unknown_trace_is_refused(example: World) -> None:
    with pytest.raises(ValueError, match="no trace"):
        make_trace("nothing", 0, example)


def test_a_slow_host_takes_twice_as_long_from_the_change_on() -> None:
    host = Host(100)
    assert host.end_ns(0, 50.0) == 50
    assert host.end_ns(90, 30.0) == 140
    assert host.end_ns(200, 30.0) == 260
    assert host.done_by([50, 100, 140]).tolist() == [50.0, 100.0, 120.0]


def test_nothing_is_done_during_a_stall() -> None:
    host = Host(stalls=((100, 50), (200, 10)))
    assert [host.end_ns(start, 30) for start in (0, 70, 80, 100, 120, 149, 150, 180)] == [
        30,
        100,
        160,
        180,
        180,
        180,
        180,
        220,
    ]
    assert host.end_ns(90, 100) == 250
    assert host.done_by([50, 100, 120, 150, 160, 205, 300]).tolist() == [50, 100, 100, 100, 110, 150, 240]


def test_a_slow_host_may_stall_too() -> None:
    host = Host(slow_at_ns=100, stalls=((50, 20), (120, 30)))
    assert host.end_ns(40, 20) == 80
    assert host.end_ns(40, 50) == 120  # 40 awake until it slows down, the rest takes twice as long
    assert host.end_ns(40, 60) == 170
    assert host.done_by([40, 80, 110, 160]).tolist() == [40, 60, 85, 95]


@given(st.integers(0, 100), st.integers(0, 2_000), st.floats(0.0, 500.0), st.one_of(st.none(), st.integers(0, 1_000)))
def test_the_work_done_by_the_end_is_what_was_asked_for(
    seed: int, start_ns: int, work_ns: float, slow_at_ns: int | None
) -> None:
    gaps = np.random.default_rng(seed).integers(1, 100, (20, 2))
    ends = np.cumsum(gaps.sum(axis=1))
    host = Host(
        slow_at_ns, stalls=tuple((int(end - length), int(length)) for end, (_, length) in zip(ends, gaps, strict=True))
    )
    before, after = host.done_by([start_ns, host.end_ns(start_ns, work_ns)])
    assert after - before == pytest.approx(work_ns, abs=1.0)


def test_stalls_come_at_the_stated_rate_and_change_nothing_else(example: World) -> None:
    plain, stalled = (make_trace("poisson_80", 0, example, stalls=each) for each in (None, StallRate(2.0, 30.0)))
    assert plain.host.stalls == ()
    assert plain.arrival_ns.tolist() == stalled.arrival_ns.tolist()
    begins, lengths = np.array(stalled.host.stalls).T
    assert len(begins) == pytest.approx(120, abs=45)
    assert lengths.mean() / 1e6 == pytest.approx(30.0, rel=0.35)
    assert (begins[1:] >= (begins + lengths)[:-1]).all()


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 10.0), (1.0, 0.0), (100.0, 10.0)])
def test_impossible_stalls_are_refused(rate: float, mean: float) -> None:
    with pytest.raises(ValueError, match="stalls must have"):
        StallRate(rate, mean)


def test_the_example_is_as_stated(example: World) -> None:
    assert len(example.f1) == 12
    assert example.f1[[0, -1]].tolist() == [60.0, 80.0]
    assert (np.diff(example.f1, 2) < 0).all()
    assert np.median(example.profile.residuals) == pytest.approx(1.0, abs=1e-3)
    per_token = np.diff(example.profile.window_ns[-1]) / np.diff(example.profile.lengths)
    assert per_token == pytest.approx(np.full(len(per_token), 0.055e6))
    cheapest = np.array(example.profile.window_ns[0]) / np.array(example.profile.window_ns[-1])
    assert cheapest == pytest.approx(np.full(len(cheapest), 0.27 + 0.73 * 0.25))


def test_the_model_s_own_table_is_used_if_it_leaves_a_choice() -> None:
    found = load_world(packaged_store(), "default", None)
    assert len(found.f1) >= FEWEST_POINTS
    assert "EXAMPLE" not in found.table_source


def test_a_table_without_choice_is_replaced_by_the_example_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.simulation.world.FEWEST_POINTS", 1_000)
    assert "EXAMPLE" in load_world(packaged_store(), "default", None).table_source
