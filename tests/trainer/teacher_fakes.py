"""A teacher of a few numbers: tokenizers with a dozen pieces, and an encoder that looks like one of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from tests.trainer.helpers import SMALL, excerpt
from trainer.teacher import TeacherNetwork
from trainer.teacher_pieces import PieceMap
from trainer.tiny import TinyConfig, write_tiny_checkpoint

PIECES = {"[UNK]": 0, "a": 1, "b": 2, "c": 3, "##d": 4, "what": 5, "?": 6}
OURS = {piece: place for place, piece in enumerate(["[PAD]", *PIECES, "[CLS]", "[SEP]"])}
HIDDEN = 16


def word_pieces(vocabulary: Mapping[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token="[UNK]"))  # noqa: S106 - a word piece
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def mpnet_like(without: str = "", more: tuple[str, ...] = ()) -> Tokenizer:
    """Our pieces shifted by MPNet's four specials, framed as MPNet does."""
    pieces = [piece for piece in (*PIECES, *more) if piece != without]
    tokenizer = word_pieces({piece: place for place, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])})
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


class FakeEncoder(nn.Module):
    """Hidden states of a token: its own, mixed with the mean of its window; with dropout, as encoders have."""

    def __init__(self, vocabulary: int, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, HIDDEN)
        self.mixing = nn.Linear(HIDDEN, HIDDEN)
        self.dropout = nn.Dropout(dropout)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        words = self.dropout(self.words(input_ids))
        mask = attention_mask[..., None]
        mean = (words * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return SimpleNamespace(last_hidden_state=words + self.mixing(mean))


def fake_teacher(seed: int = 0, dropout: float = 0.0) -> TeacherNetwork:
    """A teacher of windows made by `helpers.random_features`: pieces ``p0``, ``p1``, ... beside the specials."""
    names = tuple(f"p{number}" for number in range(4, SMALL.vocabulary))
    ours = word_pieces({piece: place for place, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *names])})
    theirs = mpnet_like(more=names)
    encoder = FakeEncoder(theirs.get_vocab_size(), seed, dropout)
    return TeacherNetwork(encoder, HIDDEN, PieceMap(ours, theirs, pad=1), types=False, seed=seed)


def tiny_bert(folder: Path, pieces: Path | None = None, config: TinyConfig | None = None) -> Path:
    """A checkpoint that transformers reads, framed as BERT does; `pieces` is a tokenizer to use in place of its own."""
    write_tiny_checkpoint(folder, excerpt(), seed=0, config=config)
    tokenizer = Tokenizer.from_file(str(pieces or folder / "tokenizer.json"))
    specials = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=specials
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
