"""BERT's word pieces by compiled code: the same as the ``tokenizers`` library's, sooner.

The library keeps an alignment of every character through normalizing and splitting, which is most of its 2 us a token.
Of ASCII it changes nothing but the case, so that places in the normalized text are those in the text as it came.  The
words of a text are normalized and split independently of each other: the few that are not ASCII go to the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from reading.kernels import ReadingKernels

IntArray = NDArray[np.int32]

_MOST_FOREIGN, _CHARS_PER_FOREIGN = 16, 256
"""Words that are not ASCII: with more of them than these, or than one in so many characters of a long text, one call of
the library for the whole text is sooner.
"""
_FOREIGN, _MOST_WORD = -1, 255  # as ``pieces.h`` has them


class _Vocabulary(NamedTuple):
    """Of a lower-case tokenizer.

    Attributes:
        whole: piece that begins a word -> id; only those that are ASCII and no longer than a word may be.
        parts: piece that goes on with one, without its prefix -> id; likewise.
        unknown_id: of a word that no pieces make up.
        longest_word: code points; a longer word is unknown.
    """

    whole: Mapping[str, int]
    parts: Mapping[str, int]
    unknown_id: int
    longest_word: int


class WordPieces:
    """Greedy longest match first (Wu et al. 2016, section 4.1; Devlin et al. 2019, "BERT", section 3).

    `encode` may be called by many threads at once.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: _Vocabulary, kernels: ReadingKernels) -> None:
        """Hand the vocabulary over; `of` is what knows it.

        Raises:
            MemoryError: there is no room for it.
        """
        self._tokenizer = tokenizer
        self._kernels = kernels
        spelled = [piece.encode() for piece in (*vocabulary.whole, *vocabulary.parts)]
        ends = np.cumsum([len(each) for each in spelled], dtype=np.int32)
        ids = np.array([*vocabulary.whole.values(), *vocabulary.parts.values()], dtype=np.int32)
        self._pieces = kernels.create_pieces(
            b"".join(spelled),
            ends.ctypes.data,
            ids.ctypes.data,
            len(spelled),
            len(vocabulary.whole),
            vocabulary.unknown_id,
            vocabulary.longest_word,
        )
        if not self._pieces:
            raise MemoryError("no memory for the word pieces")

    def __del__(self) -> None:
        if getattr(self, "_pieces", None):
            self._kernels.destroy_pieces(self._pieces)

    @classmethod
    def of(cls, tokenizer: Tokenizer, kernels: ReadingKernels) -> WordPieces | None:
        """What gives the same pieces as `tokenizer`; None if that is none of BERT's lower-case ones.

        Args:
            tokenizer: told to recognise no special tokens in texts.
            kernels: do the work.

        Raises:
            MemoryError: there is no room for the vocabulary.
        """
        vocabulary = _vocabulary(tokenizer)
        return None if vocabulary is None else cls(tokenizer, vocabulary, kernels)

    def encode(self, text: str) -> IntArray | None:
        """Ids, first code points and those past the last of all pieces, int32 ``[3, n]``.

        None for a text better left to the library.

        Raises:
            UnicodeEncodeError: `text` holds a lone surrogate.
        """
        raw = text.encode()
        rows = np.empty((3, len(raw)), dtype=np.int32)
        count = self._kernels.split(self._pieces, raw, len(raw), rows.ctypes.data)
        if count < 0:
            return None
        found = rows[:, :count].copy()  # a text has four times as many bytes as pieces, and may wait for a while
        return found if len(raw) == len(text) else self._with_foreign(text, found)

    def _with_foreign(self, text: str, rows: IntArray) -> IntArray | None:
        """`rows` with the library's pieces of every word that is not ASCII."""
        places = np.flatnonzero(rows[0] == _FOREIGN).tolist()
        if len(places) > max(_MOST_FOREIGN, len(text) // _CHARS_PER_FOREIGN):
            return None
        parts, done = [], 0
        for place in places:
            _, start, end = rows[:, place].tolist()
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2).T + start
            parts += [rows[:, done:place], np.vstack((np.array(encoding.ids, dtype=np.int32), offsets))]
            done = place + 1
        return np.concatenate((*parts, rows[:, done:]), axis=1, dtype=np.int32)


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary | None:
    """None if `tokenizer` is none of BERT's lower-case ones."""
    normalizer, model = tokenizer.normalizer, tokenizer.model
    bert = isinstance(normalizer, BertNormalizer) and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
    if not (bert and normalizer.lowercase and normalizer.clean_text and isinstance(model, WordPiece)):
        return None
    if not all(token.special for token in tokenizer.get_added_tokens_decoder().values()):
        return None  # it would be found inside texts
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    unknown_id = vocabulary.get(model.unk_token)
    prefix, longest = model.continuing_subword_prefix, model.max_input_chars_per_word
    if unknown_id is None or not prefix or longest > _MOST_WORD:
        return None
    usable = {piece: place for piece, place in vocabulary.items() if piece.isascii()}
    parts = {piece.removeprefix(prefix): place for piece, place in usable.items() if piece.startswith(prefix)}
    short_parts = {piece: place for piece, place in parts.items() if len(piece) <= longest}
    return _Vocabulary({k: v for k, v in usable.items() if len(k) <= longest}, short_parts, unknown_id, longest)
