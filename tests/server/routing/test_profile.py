"""The latency profile: what it predicts, what it refuses, and that JSON keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.profile import InvalidProfileError, LatencyProfile, ProfileKey, interpolate, parse_profile

KEY = ProfileKey("sha256:0", "openvino", "int8+f32", "Some CPU @ 2 GHz", 2)
PROFILE = LatencyProfile(
    key=KEY,
    configurations=("c01", "full"),
    lengths=(16, 32, 64),
    window_ns=((100.0, 150.0, 250.0), (200.0, 300.0, 600.0)),
    residuals=(0.9, 1.0, 1.1, 1.5),
    answer_ns=10.0,
    answer_ns_per_window=3.0,
    tokenize_ns=40.0,
    tokenize_ns_per_char=0.5,
    measured="calibrated",
)


@st.composite
def profiles(draw: st.DrawFn) -> LatencyProfile:
    times = st.floats(1.0, 1e12)
    costs = st.floats(0.0, 1e9)
    names = draw(st.lists(st.text(max_size=6).filter(_encodable), min_size=1, max_size=4, unique=True))
    lengths = sorted(draw(st.sets(st.integers(1, 512), min_size=1, max_size=6)))
    row = st.lists(times, min_size=len(lengths), max_size=len(lengths)).map(tuple)
    text = st.text(max_size=8).filter(_encodable)
    return LatencyProfile(
        key=ProfileKey(draw(text), draw(text), draw(text), draw(text), draw(st.integers(1, 1024))),
        configurations=tuple(names),
        lengths=tuple(lengths),
        window_ns=tuple(draw(row) for _ in names),
        residuals=tuple(sorted(draw(st.lists(st.floats(0.01, 50.0), min_size=1, max_size=20)))),
        answer_ns=draw(costs),
        answer_ns_per_window=draw(costs),
        tokenize_ns=draw(costs),
        tokenize_ns_per_char=draw(costs),
        measured=draw(st.sampled_from(["calibrated", "probed"])),
        length_step=draw(st.sampled_from([1, 8, 16])),
    )


def _encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@given(profiles())
def test_json_keeps_a_profile(profile: LatencyProfile) -> None:
    assert parse_profile(profile.to_json(), "here") == profile


@given(profiles(), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_a_request_takes_its_windows_and_what_goes_beside_them(profile: LatencyProfile, lengths: list[int]) -> None:
    beside = profile.answer_ns + profile.answer_ns_per_window
    alone = [profile.service_ns([length]) - beside for length in lengths]
    expected = np.sum(alone, axis=0) + profile.answer_ns + profile.answer_ns_per_window * len(lengths)
    np.testing.assert_allclose(profile.service_ns(lengths), expected, rtol=1e-9, atol=1e-3)
    assert profile.service_ns(lengths).shape == (len(profile.configurations),)


@given(profiles())
def test_times_at_the_lengths_measured_are_those_measured(profile: LatencyProfile) -> None:
    exact = replace(profile, length_step=1)
    assert exact.table.shape == (len(profile.configurations), profile.lengths[-1] + 1)
    np.testing.assert_allclose(exact.table[:, profile.lengths], profile.window_ns, rtol=1e-9)
    assert (profile.table > 0.0).all()


def test_times_are_linear_between_lengths_and_go_on_outside() -> None:
    assert PROFILE.table[:, 24].tolist() == [125.0, 250.0]
    assert PROFILE.table[:, 8].tolist() == [75.0, 150.0]
    assert PROFILE.table[:, 0].tolist() == [50.0, 100.0]
    assert (PROFILE.service_ns([96]) - 13.0).tolist() == [350.0, 900.0]


def test_falling_times_go_on_to_half_of_the_nearest_at_most() -> None:
    assert interpolate([0, 10, 30, 1000], [10, 20], [100.0, 80.0]).tolist() == [120.0, 100.0, 60.0, 40.0]
    assert interpolate([0], [10, 20], [10.0, 80.0]).tolist() == [5.0]
    assert interpolate([1, 5, 9], [5], [7.0]).tolist() == [7.0, 7.0, 7.0]


def test_padded_windows_take_the_time_of_the_next_step() -> None:
    padded = replace(PROFILE, length_step=16)
    assert padded.table[1, 1] == padded.table[1, 16] == 200.0
    assert padded.table[1, 17] == padded.table[1, 32] == 300.0
    assert padded.table[1, 33] == padded.table[1, 48] == 450.0
    assert padded.service_ns([65])[1] == padded.service_ns([80])[1] == 750.0 + 13.0


def test_the_longest_length_measured_need_not_be_a_whole_step() -> None:
    odd = replace(PROFILE, lengths=(16, 32, 60), length_step=16)
    assert odd.table[:, 55].tolist() == odd.table[:, 60].tolist() == [250.0, 600.0]


@given(profiles(), st.lists(st.integers(1, 900), min_size=1, max_size=4))
def test_windows_that_are_as_long_to_all_configurations_take_the_time_of_that_length(
    profile: LatencyProfile, lengths: list[int]
) -> None:
    alike = np.tile(np.asarray(lengths, dtype=np.int64), (len(profile.configurations), 1))
    np.testing.assert_allclose(profile.inference_ns_of_each(alike), profile.inference_ns(lengths), rtol=1e-9)


def test_a_window_may_be_as_good_as_a_longer_or_shorter_one_to_each_configuration() -> None:
    assert PROFILE.inference_ns_of_each(np.asarray([[16], [64]])).tolist() == [100.0, 600.0]
    assert PROFILE.inference_ns_of_each(np.asarray([[32, 64], [16, 32]])).tolist() == [400.0, 500.0]
    beyond = PROFILE.inference_ns_of_each(np.asarray([[96], [16]]))
    assert beyond.tolist() == [350.0, 200.0]  # the last segment goes on


def test_what_is_given_out_may_be_changed_without_harm() -> None:
    first = PROFILE.service_ns([16])
    first += 1e9
    assert PROFILE.service_ns([16]).tolist() == [113.0, 213.0]


@pytest.mark.parametrize("lengths", [[], [0], [-1], [16, 0]])
def test_a_request_has_windows_with_tokens(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        PROFILE.service_ns(lengths)


def test_tokenizing_takes_a_fixed_part_and_one_per_character() -> None:
    assert PROFILE.tokenize_time_ns(100) == 90.0


def test_residuals_are_quantiles() -> None:
    assert [PROFILE.residual(p) for p in (0.0, 0.125, 0.25, 0.875, 1.0)] == [0.9, 0.9, 0.95, 1.5, 1.5]
    with pytest.raises(ValueError, match="probability"):
        PROFILE.residual(1.5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"configurations": ()}, "configurations"),
        ({"configurations": ("c01", "c01")}, "configurations"),
        ({"configurations": ("c01",)}, "2 rows"),
        ({"lengths": ()}, "lengths"),
        ({"lengths": (16, 16, 32)}, "lengths"),
        ({"lengths": (0, 16, 32)}, "lengths"),
        ({"lengths": (16, 32, 1 << 40)}, "lengths"),
        ({"lengths": (16, 32)}, "c01 has 3 times"),
        ({"window_ns": ((1.0, 2.0, 0.0), (1.0, 2.0, 3.0))}, "positive"),
        ({"window_ns": ((1.0, 2.0, 3.0), (1.0, 2.0, float("nan")))}, "full must be positive"),
        ({"residuals": ()}, "residuals"),
        ({"residuals": (1.1, 1.0)}, "sorted"),
        ({"residuals": (0.0, 1.0)}, "positive"),
        ({"answer_ns": -1.0}, "answer_ns"),
        ({"tokenize_ns_per_char": float("inf")}, "tokenize_ns_per_char"),
        ({"measured": "guessed"}, "measured"),
        ({"length_step": 0}, "length_step"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(PROFILE, **changes)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(PROFILE.to_json()), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "JSON"),
        (PROFILE.to_json()[:-20], "JSON"),
        (b"[]", "object"),
        (b"{}", "format_version"),
        (changed(format_version=2), "format_version must be 1"),
        (changed(surprise=1), "surprise"),
        (changed(key={"artifact": "x"}), "engine"),
        (changed(configurations=["c01", 2]), "string"),
        (changed(lengths=[16, 32, 64.5]), "integer"),
        (changed(window_ns=[[1, 2, 3], 4]), "list"),
        (changed(window_ns=[[1, 2, 3], [1, 2, "3"]]), "number"),
        (changed(lengths=[16, 32, 32]), "rise"),
        (changed(answer_ns=None), "answer_ns"),
    ],
)
def test_damaged_bytes_are_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(InvalidProfileError, match=word) as caught:
        parse_profile(data, "here.json")
    assert "here.json" in str(caught.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_profile_or_an_error_of_their_own(data: bytes) -> None:
    with pytest.raises(InvalidProfileError):
        parse_profile(data, "here")
