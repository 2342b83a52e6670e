"""Our windows in a teacher's word pieces.

A teacher whose vocabulary holds the same pieces under other numbers (MPNet's is BERT's, shifted, with other special
tokens) reads the very windows that the student reads, and its logits then fit ours token by token.  Whatever does not
fit exactly is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from trainer.network import Batch

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class TeacherBatch:
    """Windows framed as the teacher is used to.

    Attributes:
        input_ids: int64 ``[b, m]``, the teacher's word piece numbers.
        attention_mask: int64 ``[b, m]``, 1 for tokens and 0 for padding.
        token_type_ids: int64 ``[b, m]``.
        places: int64 ``[b, n]``, where in `input_ids` the token at each place of our window stands.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    places: Tensor

    def ours(self, values: Tensor) -> Tensor:
        """Of a vector at each of the teacher's places, ``[b, m, width]``, those of our tokens, ``[b, n, width]``."""
        return values.gather(1, self.places[..., None].expand(-1, -1, values.shape[-1]))


@dataclass(frozen=True, slots=True)
class Framing:
    """Special tokens that a teacher puts around a question and a context.

    Attributes:
        first: id before the question (BERT's [CLS], MPNet's <s>).
        middle: ids between question and context (BERT one [SEP], MPNet two </s>).
        last: id behind the context.
        context_type: token type of the context; the question's is 0.
        pad: id that fills a batch.
    """

    first: int
    middle: tuple[int, ...]
    last: int
    context_type: int = 0
    pad: int = 0


class PieceMap:
    """From our word piece numbers to a teacher's.

    Args:
        ours: our tokenizer.
        theirs: the teacher's.
        pad: the teacher's padding id.

    Raises:
        ValueError: the teacher frames a pair in another way than one special token before, some between and one behind.
    """

    def __init__(self, ours: Tokenizer, theirs: Tokenizer, pad: int) -> None:
        self._ours = _plain(ours)
        self._theirs = _plain(theirs)
        self.framing = find_framing(theirs, pad)
        self._ids = torch.full((max(ours.get_vocab().values()) + 1,), _UNKNOWN, dtype=torch.int64)
        numbers = theirs.get_vocab()
        for piece, number in ours.get_vocab().items():
            self._ids[number] = numbers.get(piece, _UNKNOWN)
        unknown = getattr(theirs.model, "unk_token", None)
        if unknown in numbers:
            self._ids[ours.token_to_id("[UNK]")] = numbers[unknown]
        self._ids[ours.token_to_id("[CLS]")] = self.framing.first
        self._ids[ours.token_to_id("[SEP]")] = self.framing.last

    @classmethod
    def from_files(cls, ours: Path, theirs: Path, pad: int) -> PieceMap:
        """Read two ``tokenizer.json``; raises ValueError where one is not readable."""
        return cls(_read(ours), _read(theirs), pad)

    def check_ids(self, token_ids: Tensor) -> None:
        """Refuse windows with pieces that the teacher lacks.

        Raises:
            ValueError: names some of them.
        """
        used = torch.unique(token_ids.long())
        missing = used[self._ids[used] == _UNKNOWN]
        if len(missing):
            names = ", ".join(repr(self._ours.id_to_token(int(one))) for one in missing[:5])
            raise ValueError(f"the teacher's vocabulary lacks {len(missing)} of our word pieces, among them {names}")

    def check_texts(self, texts: Iterable[str]) -> None:
        """Refuse a teacher that splits texts into other pieces than we do.

        Raises:
            ValueError: shows the first difference.
        """
        for text in texts:
            ours = self._ours.encode(text, add_special_tokens=False)
            theirs = self._theirs.encode(text, add_special_tokens=False)
            wanted = self._ids[torch.tensor(ours.ids, dtype=torch.int64)].tolist()
            if wanted == theirs.ids:
                continue
            pairs = enumerate(zip(wanted, theirs.ids, strict=False))
            place = next((i for i, (a, b) in pairs if a != b), min(len(wanted), len(theirs.ids)))
            raise ValueError(
                f"the teacher splits text into other word pieces: {theirs.tokens[place : place + 3]} where we have "
                f"{ours.tokens[place : place + 3]} (piece {place} of {text[:60]!r})"
            )

    def frame(self, batch: Batch) -> TeacherBatch:
        """The windows of `batch` in the teacher's numbers, between its special tokens."""
        size, count = batch.token_ids.shape
        frame, device = self.framing, batch.token_ids.device
        extra = len(frame.middle) - 1
        ours = torch.arange(count, device=device)[None].expand(size, -1)
        places = ours + extra * (ours >= batch.segment_starts[:, None])
        mapped = self._ids.to(device)[batch.token_ids].masked_fill(~batch.real, frame.pad)
        ids = torch.full((size, count + extra), frame.pad, dtype=torch.int64, device=device).scatter(1, places, mapped)
        for shift, token in enumerate(frame.middle):
            ids.scatter_(1, batch.segment_starts[:, None] - 1 + shift, token)
        theirs = torch.arange(count + extra, device=device)[None]
        mask = theirs < batch.lengths[:, None] + extra
        in_context = mask & (theirs >= batch.segment_starts[:, None] + extra)
        return TeacherBatch(ids, mask.long(), in_context.long() * frame.context_type, places)


def find_framing(tokenizer: Tokenizer, pad: int) -> Framing:
    """How a tokenizer frames a pair of texts; raises ValueError where it is not one token, some, one token."""
    pair = tokenizer.encode("a", "a")
    sides = pair.sequence_ids
    first, second = (len(tokenizer.encode("a", add_special_tokens=False).ids),) * 2
    between = len(sides) - first - second - 2
    if between < 1 or sides != [None, *[0] * first, *[None] * between, *[1] * second, None]:
        raise ValueError(
            f"the teacher frames a question and a context as {pair.tokens}, which our windows cannot follow"
        )
    middle = tuple(pair.ids[1 + first : 1 + first + between])
    return Framing(pair.ids[0], middle, pair.ids[-1], pair.type_ids[-1], pad)


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{path} is not a readable tokenizer.json: {error}") from error


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # which means: do not recognise them in a text
    return tokenizer
