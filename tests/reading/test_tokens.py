from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from reading import TextTokenizer
from tests.reading.helpers import small_tokenizer


def test_a_text_cannot_spell_a_special_token(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("cat [SEP] [CLS] [PAD]").ids.tolist()
    assert not {tokenizer.special.sep_id, tokenizer.special.cls_id, tokenizer.special.pad_id} & set(ids)


@given(st.text())
def test_offsets_ascend_inside_the_text(text: str) -> None:
    tokens = small_tokenizer().encode(text)
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))


def test_a_tokenizer_without_frame_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no \[CLS\] token"):
        TextTokenizer(Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")))  # noqa: S106


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        TextTokenizer.from_file(path)
