from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from reading.tokens import TextTokenizer
from reading.word_pieces import WordPieces
from server.engine.native import obstacle
from server.model import reading_kernels

FOUND = reading_kernels()
if FOUND is None:
    pytest.skip(obstacle(), allow_module_level=True)
KERNELS = FOUND

WHOLE = ["[UNK]", "[SEP]", "the", "lee", "paris", "cafe", "\u00e9", "\u65e5", "\u0131", "ss", "a", "b", "1", "\u1100"]
PARTS = ["##way", "##wa", "##y", "##\u672c", "##a", "##b", "##1", "##\u1161"]
PLACES = {piece: place for place, piece in enumerate([*WHOLE, *PARTS, *string.punctuation])}
SPELLINGS = [
    "The",
    "LEEWAY",
    "leewayx",
    "caf\u00e9",
    "cafe\u0301",
    "[SEP]",
    "\u65e5\u672c",
    "\u0130",
    "\uac00",
    "\u2260",
]
GAPS = [" ", "\n", "\t", "\u00a0", "\u3000", "\u200d", "\u200b", "\x00", "\x85", "-", "."]


def lower_case(vocabulary: dict[str, int] = PLACES, longest: int = 9) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[UNK]", "[SEP]"])
    tokenizer.encode_special_tokens = True
    return tokenizer


TOKENIZER = lower_case()
PIECES = WordPieces.of(TOKENIZER, KERNELS)


def assert_same(text: str) -> None:
    assert PIECES is not None
    found = PIECES.encode(text)
    expected = TOKENIZER.encode(text, add_special_tokens=False)
    if found is not None:
        ids, starts, ends = found.tolist()
        assert (ids, list(zip(starts, ends, strict=True))) == (expected.ids, expected.offsets)


@given(st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_pieces_of_ascii_are_those_of_the_library(text: str) -> None:
    assert_same(text)


@given(st.text())
def test_pieces_of_any_text_are_those_of_the_library(text: str) -> None:
    assert_same(text)


@given(st.lists(st.sampled_from(SPELLINGS + GAPS) | st.text(alphabet="aAbB1\u0301", max_size=12)))
def test_pieces_of_mixed_words_are_those_of_the_library(parts: list[str]) -> None:
    assert_same("".join(parts))


def test_ascii_and_a_few_other_words_are_not_left_to_the_library() -> None:
    assert PIECES is not None
    assert PIECES.encode("The Leeway, in Paris." + "!" * 40) is not None
    assert PIECES.encode("caf\u00e9 " * 16) is not None
    assert PIECES.encode("caf\u00e9 " * 17) is None
    assert PIECES.encode("the " * 2_000 + "caf\u00e9 " * 17) is not None
    assert PIECES.encode("a\x00b") is None


def test_a_lone_surrogate_is_refused() -> None:
    assert PIECES is not None
    with pytest.raises(UnicodeEncodeError):
        PIECES.encode("a \ud800 b")


def test_another_tokenizer_is_left_to_the_library() -> None:
    cased, whole, found, other = (lower_case() for _ in range(4))
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found.add_tokens([AddedToken("leeway", normalized=True)])
    other.model = models.WordLevel(PLACES, unk_token="[UNK]")  # noqa: S106
    too_long = lower_case(longest=256)
    no_prefix = lower_case()
    no_prefix.model = models.WordPiece(PLACES, unk_token="[UNK]", continuing_subword_prefix="")  # noqa: S106
    for tokenizer in (cased, whole, found, other, too_long, no_prefix, lower_case({"a": 0})):
        assert WordPieces.of(tokenizer, KERNELS) is None


def test_a_word_may_be_as_long_as_the_kernels_can_hold() -> None:
    letters = "".join(map(chr, range(ord("a"), ord("z") + 1))) * 10
    tokenizer = lower_case({"[UNK]": 0, letters[:255]: 1, letters[:200]: 2, f"##{letters[200:254]}": 3}, longest=255)
    pieces = WordPieces.of(tokenizer, KERNELS)
    assert pieces is not None
    for size, expected in ((255, [1]), (254, [2, 3]), (253, [0]), (256, [0])):
        text = letters[:size]
        found = pieces.encode(text)
        assert found is not None
        assert found[0].tolist() == expected == tokenizer.encode(text, add_special_tokens=False).ids
        assert found[1:, [0, -1]].tolist()[1][1] == size


def test_an_empty_text_has_no_pieces() -> None:
    assert PIECES is not None
    found = PIECES.encode("")
    assert found is not None
    assert found.shape == (3, 0)


def test_a_text_tokenizer_splits_alike_with_and_without_kernels() -> None:
    text = "The leeway, in caf\u00e9s \u65e5\u672c of PARIS: a1b leewayx" * 300
    with_kernels, without = TextTokenizer(special(), KERNELS).encode(text), TextTokenizer(special()).encode(text)
    assert with_kernels.ids.tolist() == without.ids.tolist()
    assert with_kernels.starts.tolist() == without.starts.tolist()
    assert with_kernels.ends.tolist() == without.ends.tolist()


def special() -> Tokenizer:
    pieces = [*PLACES, "[CLS]", "[PAD]"]
    return lower_case({piece: place for place, piece in enumerate(pieces)})
