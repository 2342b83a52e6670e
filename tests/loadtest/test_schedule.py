from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.schedule import Arrivals, Process, Rate, TraceError, make_arrivals, read_trace

STRETCHES = st.lists(
    st.builds(Rate, seconds=st.floats(0.1, 20.0), per_second=st.one_of(st.just(0.0), st.floats(0.1, 50.0))),
    min_size=1,
    max_size=5,
)


def arrivals(process: Process, *rates: Rate, seed: int = 1, cv: float = 1.0) -> Arrivals:
    return make_arrivals(process, rates, np.random.default_rng(seed), cv)


def test_a_constant_rate_has_equal_gaps_from_the_beginning_on() -> None:
    found = arrivals("constant", Rate(2.0, 4.0))
    assert found.at_ns.tolist() == [0, 250_000_000, 500_000_000, 750_000_000] + [
        1_000_000_000 + each for each in (0, 250_000_000, 500_000_000, 750_000_000)
    ]
    assert found.seconds == 2.0


def test_a_step_changes_the_gaps_and_an_empty_stretch_is_skipped() -> None:
    found = arrivals("constant", Rate(1.0, 2.0), Rate(3.0, 0.0), Rate(1.0, 4.0))
    assert (found.at_ns / 1e9).tolist() == [0.0, 0.5, 4.0, 4.25, 4.5, 4.75]
    assert found.phase.tolist() == [0, 0, 2, 2, 2, 2]


@given(process=st.sampled_from(["constant", "poisson", "gamma"]), rates=STRETCHES, seed=st.integers(0, 99))
def test_arrivals_ascend_within_their_stretches(process: Process, rates: list[Rate], seed: int) -> None:
    found = make_arrivals(process, rates, np.random.default_rng(seed), 3.0)
    ends = np.cumsum([each.seconds for each in rates]) * 1e9
    assert (np.diff(found.at_ns) >= 0).all()
    for place, end in enumerate(ends):
        inside = found.at_ns[found.phase == place]
        assert (inside <= end + 1).all()
        assert (inside >= end - rates[place].seconds * 1e9 - 1).all()
        assert rates[place].per_second > 0 or not len(inside)


@pytest.mark.parametrize(("process", "cv"), [("poisson", 1.0), ("gamma", 4.0), ("gamma", 0.5)])
def test_mean_rates_and_variation_are_as_asked_for(process: Process, cv: float) -> None:
    found = arrivals(process, Rate(2_000.0, 50.0), Rate(1_000.0, 10.0), cv=cv)
    counts = np.bincount(found.phase)
    for count, expected in zip(counts, (100_000, 10_000), strict=True):
        assert abs(count - expected) < 5 * cv * np.sqrt(expected)  # renewal theory: variance cv^2 x mean
    gaps = np.diff(found.at_ns[found.phase == 0])
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(cv, rel=0.05)


def test_the_seed_decides() -> None:
    rate = Rate(10.0, 10.0)
    assert arrivals("poisson", rate, seed=3).at_ns.tolist() == arrivals("poisson", rate, seed=3).at_ns.tolist()
    assert arrivals("poisson", rate, seed=3).at_ns.tolist() != arrivals("poisson", rate, seed=4).at_ns.tolist()


@pytest.mark.parametrize("rates", [(), (Rate(0.0, 1.0),), (Rate(1.0, -1.0),)])
def test_rates_that_make_no_sense_are_refused(rates: tuple[Rate, ...]) -> None:
    with pytest.raises(ValueError, match="stretch"):
        make_arrivals("poisson", rates, np.random.default_rng(0))


def test_a_trace_begins_with_its_first_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,user\n100.5,a\n100.5,b\n\n102.25,c\n", encoding="utf-8")
    found = read_trace(path)
    assert found.at_ns.tolist() == [0, 0, 1_750_000_000]
    assert found.phase.tolist() == [0, 0, 0]
    assert found.seconds == 1.75


@pytest.mark.parametrize("text", ["", "time\n", "1\n", "1\n1\n", "1\n0.5\n", "1\nx\n", "1\nnan\n", "a\nb\nc\n1\ninf\n"])
def test_what_is_no_trace_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError, match=r"trace\.csv"):
        read_trace(path)
