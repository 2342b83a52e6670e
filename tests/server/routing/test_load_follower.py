"""The ceiling under CPU pressure: quick to cheapen, slower to enrich, deaf to spikes and noise."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.load_follower import LoadFollower

MS = 1_000_000
SECOND = 1_000 * MS
COSTS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
FULL = len(COSTS) - 1

shares = st.floats(0, 1, allow_nan=False)
steps = st.sampled_from([50 * MS, 100 * MS, 250 * MS])


class Follower:
    """A follower whose pressure a test sets over time."""

    def __init__(self, costs: tuple[float, ...] = COSTS, step_ns: int = 250 * MS) -> None:
        self.follower = LoadFollower(costs)
        self.step_ns = step_ns
        self.now_ns = 0
        self.follower.update(0.0, 0)
        self.changes: list[tuple[int, int]] = []

    def hold(self, pressure: float, seconds: float) -> int:
        """Constant pressure for a while; the ceiling at its end."""
        return self.play([pressure] * round(seconds * SECOND / self.step_ns))

    def play(self, pressures: Iterable[float]) -> int:
        for pressure in pressures:
            self.now_ns += self.step_ns
            before = self.follower.ceiling
            after = self.follower.update(pressure, self.now_ns)
            if after != before:
                self.changes.append((self.now_ns, after))
        return self.follower.ceiling


def test_idle_cpus_allow_the_richest() -> None:
    assert Follower().hold(0.0, 60) == FULL


def test_what_any_host_has_cheapens_nothing() -> None:
    assert Follower().hold(0.15, 60) == FULL


@pytest.mark.parametrize(
    ("pressure", "ceiling"), [(0.16, 4), (0.19, 4), (0.21, 3), (0.34, 3), (0.5, 2), (0.64, 1), (0.79, 0), (1.0, 0)]
)
def test_the_ceiling_is_the_richest_that_fits_what_is_left(pressure: float, ceiling: int) -> None:
    assert Follower().hold(pressure, 10) == ceiling


def test_only_ratios_of_costs_count() -> None:
    assert Follower((3.0, 6.0, 9.0)).hold(0.4, 10) == Follower((1 / 3, 2 / 3, 1.0)).hold(0.4, 10) == 0


def test_a_lone_configuration_is_always_the_ceiling() -> None:
    assert Follower((1.0,)).hold(1.0, 10) == 0


@pytest.mark.parametrize("step_ns", [50 * MS, 100 * MS, 250 * MS])
def test_a_sudden_load_cheapens_within_2_seconds_even_right_after_a_change(step_ns: int) -> None:
    follower = Follower(step_ns=step_ns)
    follower.hold(0.3, 0.75)
    assert follower.hold(0.6, 2) == 1
    fresh = Follower(step_ns=step_ns)
    assert fresh.hold(0.6, 1) == 1


@pytest.mark.parametrize("step_ns", [50 * MS, 100 * MS, 250 * MS])
def test_the_end_of_a_load_enriches_within_5_seconds_and_not_before_2(step_ns: int) -> None:
    follower = Follower(step_ns=step_ns)
    follower.hold(0.6, 20)
    assert follower.hold(0.0, 2) == 1
    assert follower.hold(0.0, 3) == FULL
    assert len(follower.changes) == 2


@given(height=shares, before=st.integers(0, 30))
def test_a_spike_of_300_milliseconds_passes_unseen(height: float, before: int) -> None:
    follower = Follower(step_ns=100 * MS)
    follower.play([0.0] * before)
    # Three tenths of a second that do not begin with an update touch four of them.
    follower.play([height * 0.4, height, height, height * 0.6])
    follower.hold(0.0, 3)
    assert follower.changes == []


def test_spikes_every_second_pass_unseen() -> None:
    follower = Follower(step_ns=100 * MS)
    follower.play([1.0, 1.0, 1.0, *[0.0] * 7] * 30)
    assert follower.changes == []


@pytest.mark.parametrize("limit", [0.15, 0.2, 0.35, 0.5])
@pytest.mark.parametrize(("spread", "most"), [(0.01, 2), (0.03, 2), (0.1, 60), (0.3, 180)])
def test_noise_around_a_limit_does_not_flap(limit: float, spread: float, most: int) -> None:
    source = random.Random(7)
    follower = Follower(step_ns=100 * MS)
    follower.play(source.gauss(limit, spread) for _ in range(10 * 600))
    # In ten minutes: the way down, in two steps at most, and what noise wider than the dead band does beyond that.
    assert len(follower.changes) <= most


def test_within_the_dead_band_nothing_becomes_richer() -> None:
    follower = Follower()
    assert follower.hold(0.36, 10) == 2
    assert follower.hold(0.31, 60) == 2
    assert follower.hold(0.29, 10) == 3


def test_a_load_that_comes_and_goes_keeps_answers_cheap() -> None:
    follower = Follower(step_ns=100 * MS)
    follower.play([*[0.6] * 10, *[0.0] * 10] * 30)
    assert len(follower.changes) == 1


@given(st.lists(st.tuples(st.integers(-SECOND, 3 * SECOND), st.floats()), max_size=200))
def test_at_most_one_change_a_second_whatever_comes(updates: list[tuple[int, float]]) -> None:
    follower, now_ns, latest_ns = LoadFollower(COSTS), 0, 0
    changes: list[int] = []
    for step_ns, pressure in updates:
        now_ns += step_ns
        before = follower.ceiling
        if follower.update(pressure, now_ns) != before:
            assert not changes or now_ns > latest_ns
            changes.append(now_ns)
        latest_ns = max(latest_ns, now_ns)
        assert 0 <= follower.ceiling <= FULL
    assert all(later - earlier >= SECOND for earlier, later in itertools.pairwise(changes))


@given(st.lists(shares, max_size=100), shares, steps)
def test_constant_pressure_settles(history: list[float], pressure: float, step_ns: int) -> None:
    follower = Follower(step_ns=step_ns)
    follower.play(history)
    settled = follower.hold(pressure, 5)
    assert settled == follower.hold(pressure, 30)


@given(shares, shares, steps)
def test_higher_constant_pressure_never_gives_a_richer_ceiling(one: float, other: float, step_ns: int) -> None:
    lower, higher = sorted((one, other))
    assert Follower(step_ns=step_ns).hold(lower, 10) >= Follower(step_ns=step_ns).hold(higher, 10)


@given(shares, shares, shares)
def test_nor_after_the_same_past(past: float, one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    ceilings = []
    for pressure in (lower, higher):
        follower = Follower()
        follower.hold(past, 10)
        ceilings.append(follower.hold(pressure, 10))
    assert ceilings[0] >= ceilings[1]


def test_an_update_out_of_order_changes_nothing() -> None:
    follower = Follower()
    follower.hold(0.6, 10)
    assert follower.follower.update(0.0, follower.now_ns - SECOND) == 1
    assert follower.follower.update(0.0, follower.now_ns) == 1


def test_what_is_no_number_counts_as_idle() -> None:
    assert Follower().hold(float("nan"), 10) == FULL
    assert Follower().hold(float("inf"), 10) == 0
    assert Follower().hold(-3.0, 10) == FULL


def test_a_long_silence_counts_with_the_pressure_that_ends_it() -> None:
    follower = Follower()
    follower.hold(0.6, 10)
    assert follower.follower.update(0.0, follower.now_ns + 60 * SECOND) == FULL


@pytest.mark.parametrize(
    ("costs", "options"),
    [
        ((), {}),
        ((0.5, 0.4), {}),
        ((0.0, 1.0), {}),
        ((0.5, float("nan")), {}),
        ((0.5, float("inf")), {}),
        (COSTS, {"quiet": 0.05}),
        (COSTS, {"quiet": 1.5}),
        (COSTS, {"dead_band": -0.1}),
    ],
)
def test_impossible_parameters_are_refused(costs: tuple[float, ...], options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        LoadFollower(costs, quiet=options.get("quiet", 0.15), dead_band=options.get("dead_band", 0.05))


@pytest.mark.parametrize(("window_ns", "hold_ns", "pause_ns"), [(0, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_impossible_times_are_refused(window_ns: int, hold_ns: int, pause_ns: int) -> None:
    with pytest.raises(ValueError, match="times"):
        LoadFollower(COSTS, window_ns=window_ns, hold_ns=hold_ns, pause_ns=pause_ns)
