"""BERT's word pieces in the interpreter: the same as the ``tokenizers`` library's, sooner.

The library keeps an alignment of every character through normalizing and splitting, which is most of its 2 us a token.
Of ASCII it changes nothing but the case, so that places in the normalized text are those in the text as it came.  The
words of a text are normalized and split independently of each other: the few that are not ASCII go to the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Dropped by the normalizer, so that what stands on both sides is one word."""
_WORD = re.compile(r"[0-9A-Za-z\x80-\U0010ffff]+|[^\t\n\r ]")
"""Letters and digits together, every ASCII punctuation mark for itself."""
_MOST_FOREIGN = 16
"""Words that are not ASCII: with more of them one call of the library for the whole text is sooner."""

Piece = tuple[int, int, int]
"""Id, first code point, and the one past the last."""


@dataclass(frozen=True, slots=True)
class WordPieces:
    """Greedy longest match first (Wu et al. 2016, section 4.1; Devlin et al. 2019, "BERT", section 3).

    Attributes:
        tokenizer: told to recognise no special tokens in texts.
        vocabulary: word piece -> id; only pieces that are ASCII and no longer than a word may be.
        unknown_id: of a word that no pieces make up.
        prefix: of a piece that does not begin a word.
        longest_word: code points; a longer word is unknown.
    """

    tokenizer: Tokenizer = field(repr=False)
    vocabulary: dict[str, int] = field(repr=False)
    unknown_id: int
    prefix: str
    longest_word: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordPieces | None:
        """What gives the same pieces as `tokenizer`; None if that is none of BERT's lower-case ones."""
        normalizer, model = tokenizer.normalizer, tokenizer.model
        bert = isinstance(normalizer, BertNormalizer) and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        if not (bert and normalizer.lowercase and normalizer.clean_text and isinstance(model, WordPiece)):
            return None
        if not all(token.special for token in tokenizer.get_added_tokens_decoder().values()):
            return None  # it would be found inside texts
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        unknown_id = vocabulary.get(model.unk_token)
        if unknown_id is None:
            return None
        prefix, longest = model.continuing_subword_prefix, model.max_input_chars_per_word
        usable = {
            piece: place
            for piece, place in vocabulary.items()
            if piece.isascii() and len(piece.removeprefix(prefix)) <= longest
        }
        return cls(tokenizer, usable, unknown_id, prefix, longest)

    def encode(self, text: str) -> tuple[list[int], list[int], list[int]] | None:
        """Ids, first code points and those past the last of all pieces; None for a text better left to the library.

        Raises:
            TypeError: `text` holds a lone surrogate; so says the library.
        """
        if _CONTROL.search(text):
            return None
        plain = text.isascii()
        if plain:
            text = text.lower()
        words = _WORD.findall(text)
        if not plain and sum(not word.isascii() for word in words) > _MOST_FOREIGN:
            return None
        ids, starts, ends, end = [], [], [], 0
        find, whole_word = text.find, self.vocabulary.get
        for word in words:
            start = find(word, end)  # nothing but white space lies between
            end = start + len(word)
            whole = whole_word(word)
            if whole is None:
                for piece, first, last in self._parts(word):
                    ids.append(piece)
                    starts.append(start + first)
                    ends.append(start + last)
            else:
                ids.append(whole)
                starts.append(start)
                ends.append(end)
        return ids, starts, ends

    def _parts(self, word: str) -> Iterator[Piece]:
        """The pieces of a word, which is none itself as it stands."""
        if word.isascii():
            return iter(self._greedy(word.lower()))
        encoding = self.tokenizer.encode(word, add_special_tokens=False)
        return ((piece, *offsets) for piece, offsets in zip(encoding.ids, encoding.offsets, strict=True))

    def _greedy(self, word: str) -> list[Piece]:
        """The pieces of a lower-case word of ASCII, each as long as can be."""
        unknown = [(self.unknown_id, 0, len(word))]
        if len(word) > self.longest_word:
            return unknown
        pieces, first, prefix = [], 0, ""
        while first < len(word):
            for last in range(len(word), first, -1):
                piece = self.vocabulary.get(prefix + word[first:last])
                if piece is not None:
                    break
            else:
                return unknown
            pieces.append((piece, first, last))
            first, prefix = last, self.prefix
        return pieces
