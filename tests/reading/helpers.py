"""A small BERT tokenizer, and logits to order."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from reading import TextTokenizer, Window

WORDS = ["the", "cat", "sat", "on", "mat", "paris", "##ly", "日", "本"]
JAMO = ["\u1100", "##\u1161", "##\u11a8"]  # the three letters of the syllable U+AC01


@cache
def small_tokenizer() -> TextTokenizer:
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *JAMO, *string.punctuation]
    pieces += [*letters, *("##" + letter for letter in letters)]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - not a secret
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return TextTokenizer(tokenizer)


@dataclass(frozen=True)
class Logits:
    start: NDArray[np.float32]
    end: NDArray[np.float32]


def random_logits(windows: Sequence[Window], generator: np.random.Generator, *, whole: bool = False) -> list[Logits]:
    """Logits of every window; `whole` draws small whole numbers, so that ties are common."""

    def row(count: int) -> NDArray[np.float32]:
        values = generator.integers(-2, 3, count) if whole else generator.normal(0, 3, count)
        return values.astype(np.float32)

    return [Logits(row(len(window)), row(len(window))) for window in windows]
