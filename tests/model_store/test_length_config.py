"""Properties of length configurations."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.length_config import COUNT_STEP, MINIMUM_TOKENS, LengthConfiguration, full_configuration

ratio = st.floats(min_value=1e-6, max_value=1.0)
ratios = st.lists(ratio, min_size=1, max_size=12).map(lambda found: tuple(sorted(found, reverse=True)))
lengths = st.integers(min_value=1, max_value=512)
exempt = st.integers(min_value=0, max_value=64)


@given(ratios, exempt, lengths)
def test_kept_tokens_never_increase_and_stay_within_bounds(found: tuple[float, ...], spared: int, length: int) -> None:
    kept = LengthConfiguration("c01", found, spared).kept_tokens(length)
    assert len(kept) == len(found)
    assert all(later <= earlier for earlier, later in pairwise(kept))
    assert all(min(MINIMUM_TOKENS, length) <= count <= length for count in kept)
    assert all(count == length or count % COUNT_STEP == 0 for count in kept)


@given(ratio, exempt, lengths)
def test_at_least_the_asked_share_is_kept(share: float, spared: int, length: int) -> None:
    (kept,) = LengthConfiguration("c01", (share,), spared).kept_tokens(length)
    assert kept >= min(spared, length)
    assert kept >= math.floor(share * length)


@given(ratio, ratio, lengths)
def test_a_higher_ratio_never_keeps_fewer(one: float, other: float, length: int) -> None:
    low, high = (LengthConfiguration("c01", (share,)).kept_tokens(length) for share in sorted((one, other)))
    assert low <= high


@given(ratios, exempt, lengths, lengths)
def test_a_longer_window_never_keeps_fewer(found: tuple[float, ...], spared: int, one: int, other: int) -> None:
    short, long = (LengthConfiguration("c01", found, spared).kept_tokens(length) for length in sorted((one, other)))
    assert all(a <= b for a, b in zip(short, long, strict=True))


@given(st.integers(1, 24), lengths)
def test_full_keeps_everything(layers: int, length: int) -> None:
    assert full_configuration(layers).is_full
    assert full_configuration(layers).kept_tokens(length) == (length,) * layers


@pytest.mark.parametrize(
    ("length", "kept"),
    [
        (10, (10, 10, 10)),  # shorter than the exempt tokens: all are kept
        (96, (96, 56, 16)),  # 16 + 0.5 * 80 = 56, where a ratio of 0.5 alone keeps 48
        (168, (168, 96, 16)),  # 16 + 0.5 * 152 = 92, rounded up
        (384, (384, 200, 16)),
    ],
)
def test_ratios_count_what_is_beyond_the_exempt_tokens(length: int, kept: tuple[int, ...]) -> None:
    assert LengthConfiguration("c01", (1.0, 0.5, 0.0), exempt_tokens=16).kept_tokens(length) == kept


@pytest.mark.parametrize(("length", "seen"), [(8, 8), (40, 32), (168, 88), (384, 184)])  # 26.6, 83.2, 178.7, up
def test_the_first_layer_sees_a_share_of_what_is_beyond_the_exempt_tokens(length: int, seen: int) -> None:
    configuration = LengthConfiguration("c01", (1.0, 0.5), exempt_tokens=16, input_ratio=67.2 / 152)
    assert configuration.input_tokens(length) == seen
    assert (configuration.is_full, LengthConfiguration("c01", (1.0,), input_ratio=0.5).drops_nothing) == (False, True)
    assert not LengthConfiguration("c01", (1.0,), input_ratio=0.5).is_full


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, math.nan])
def test_an_input_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="input ratio"):
        LengthConfiguration("c01", (1.0,), input_ratio=ratio)


def test_a_negative_number_of_exempt_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="exempt"):
        LengthConfiguration("c01", (0.5,), exempt_tokens=-1)


@pytest.mark.parametrize("found", [(), (0.0,), (1.1,), (float("nan"),), (0.5, 0.6), (-1.0,), (float("inf"),)])
def test_impossible_ratios_are_refused(found: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ratio"):
        LengthConfiguration("c01", found)
