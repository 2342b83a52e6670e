from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bisection import highest_passing


@given(edge=st.floats(0.01, 1e4), start=st.floats(0.1, 1e3), tolerance=st.floats(0.005, 0.5))
def test_the_edge_is_found_within_the_tolerance(edge: float, start: float, tolerance: float) -> None:
    found = highest_passing(lambda rate: rate <= edge, start, tolerance=tolerance, most_probes=100)
    assert found.settled
    assert found.rate is not None
    assert found.failed is not None
    assert found.rate <= edge < found.failed
    assert found.failed / found.rate <= 1.0 + tolerance + 1e-12


def test_the_probes_by_hand() -> None:
    found = highest_passing(lambda rate: rate <= 30.0, 10.0, tolerance=0.5, most_probes=10)
    assert [probe.rate for probe in found.probes] == pytest.approx([10.0, 20.0, 40.0, 800.0**0.5])
    assert [probe.passed for probe in found.probes] == [True, True, False, True]
    assert found.rate == pytest.approx(800.0**0.5)
    assert found.failed == 40.0


def test_where_nothing_passes_there_is_no_rate() -> None:
    found = highest_passing(lambda rate: False, 8.0, most_probes=4)
    assert [probe.rate for probe in found.probes] == [8.0, 4.0, 2.0, 1.0]
    assert (found.rate, found.failed, found.settled) == (None, 1.0, False)


def test_where_everything_passes_the_search_ends_and_says_that_it_is_not_settled() -> None:
    found = highest_passing(lambda rate: True, 1.0, most_probes=3)
    assert (found.rate, found.failed, found.settled) == (4.0, None, False)


@pytest.mark.parametrize(("start", "tolerance", "most"), [(0.0, 0.1, 5), (1.0, 0.0, 5), (1.0, 0.1, 0)])
def test_a_search_without_sense_is_refused(start: float, tolerance: float, most: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        highest_passing(lambda rate: True, start, tolerance=tolerance, most_probes=most)
