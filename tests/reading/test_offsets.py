from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import TextTokenizer, to_utf16, utf16_offsets


@given(st.text())
def test_every_position_equals_the_length_of_the_encoded_prefix(text: str) -> None:
    expected = [len(text[:place].encode("utf-16-le")) // 2 for place in range(len(text) + 1)]
    assert utf16_offsets(text).tolist() == expected


@given(st.text(min_size=1), st.data())
def test_a_slice_in_code_points_is_the_same_slice_in_utf16(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = to_utf16(text, [start, end]).tolist()
    assert text.encode("utf-16-le")[2 * first : 2 * last].decode("utf-16-le") == text[start:end]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("", [0]),
        ("\u00e9", [0, 1]),
        ("e\u0301", [0, 1, 2]),
        ("日\x00", [0, 1, 2]),
        ("a\U0001f469\u200db", [0, 1, 3, 4, 5]),
    ],
)
def test_only_supplementary_code_points_take_two_units(text: str, units: list[int]) -> None:
    assert utf16_offsets(text).tolist() == units


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="lone surrogate at code point 2"):
        utf16_offsets("ab\ud800")
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize("place", [-1, 4])
def test_a_position_outside_the_text_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match="outside the text of 3 code points"):
        to_utf16("abc", [place])
