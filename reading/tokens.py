"""Text to word pieces with character offsets.

Only this module and `reading.word_pieces` touch the ``tokenizers`` library.  Offsets are Unicode code points into the
text as the caller sent it, never into the tokenizer's normalized form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reading.kernels import ReadingKernels
from reading.word_pieces import WordPieces

IntArray = NDArray[np.int32]

_LONG_TEXT = 4_096


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Word pieces of one text, without special tokens.

    Attributes:
        ids: int32 ``[n]``, word piece ids.
        starts: int32 ``[n]``, first code point of each piece in the original text.
        ends: int32 ``[n]``, one past the last code point of each piece.
    """

    ids: IntArray
    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return int(self.ids.shape[0])


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the special tokens that frame a window (``[CLS] question [SEP] context [SEP]``)."""

    cls_id: int
    sep_id: int
    pad_id: int


class TextTokenizer:
    """A ``tokenizer.json`` without truncation and padding: lengths are decided by `reading.windows`.

    A text that spells a special token ("[SEP]") is split like any other text: what a caller writes can
    never become the frame of a window.

    Attributes:
        kernels: compiled code that it was given, which reads answers off, too (`reading.spans.best_answers`).
    """

    def __init__(self, tokenizer: Tokenizer, kernels: ReadingKernels | None = None) -> None:
        """Wrap `tokenizer`, which is told to add nothing to a text and to cut nothing off.

        Args:
            tokenizer: owned from now on.
            kernels: give the same pieces sooner (`reading.word_pieces`); None to do without.

        Raises:
            ValueError: it lacks one of [CLS], [SEP], [PAD].
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # which means: do not recognise them in a text
        self.kernels = kernels
        self._tokenizer = tokenizer
        self._pieces = WordPieces.of(tokenizer, kernels) if kernels is not None else None
        self.special = SpecialTokens(
            cls_id=self._special_id("[CLS]"),
            sep_id=self._special_id("[SEP]"),
            pad_id=self._special_id("[PAD]"),
        )

    @classmethod
    def from_file(cls, path: Path, kernels: ReadingKernels | None = None) -> TextTokenizer:
        """Load a Hugging Face ``tokenizer.json``; `kernels` as for a new one.

        Raises:
            ValueError: the file is no tokenizer, or lacks one of [CLS], [SEP], [PAD].
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(f"{path} is not a readable tokenizer.json: {error}") from error
        return cls(tokenizer, kernels)

    def _special_id(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise ValueError(f"the tokenizer has no {token} token, which framing a window needs")
        return int(token_id)

    @property
    def vocabulary_size(self) -> int:
        """Number of word pieces, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> TokenizedText:
        """Split `text` into word pieces.

        Raises:
            ValueError: `text` holds a lone surrogate, which no UTF-8 text can hold.
        """
        try:
            pieces = self._pieces.encode(text) if self._pieces is not None else None
            if pieces is not None:
                return TokenizedText(*pieces)
            if len(text) < _LONG_TEXT:
                encoding = self._tokenizer.encode(text, add_special_tokens=False)
            else:  # lets other threads run, where `encode` holds the interpreter lock: 0.1 s per 200,000 characters
                encoding = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
        except (UnicodeEncodeError, TypeError) as error:
            raise ValueError("the text holds a lone surrogate, which is no Unicode text") from error
        offsets = np.asarray(encoding.offsets, dtype=np.int32).reshape(-1, 2)
        return TokenizedText(
            ids=np.asarray(encoding.ids, dtype=np.int32),
            starts=np.ascontiguousarray(offsets[:, 0]),
            ends=np.ascontiguousarray(offsets[:, 1]),
        )
