"""A tiny random checkpoint in Hugging Face's form, to run all stages in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from reading import SquadDataset

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Sizes, as in a Hugging Face ``config.json``."""

    num_hidden_layers: int = 3
    hidden_size: int = 32
    num_attention_heads: int = 4
    intermediate_size: int = 64
    max_position_embeddings: int = 384
    type_vocab_size: int = 2
    vocabulary: int = 800


def write_tiny_checkpoint(folder: Path, dataset: SquadDataset, seed: int, config: TinyConfig | None = None) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json`` with word pieces learned from `dataset`."""
    config = config or TinyConfig()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(_texts(dataset), config.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    save_file(_weights(config, vocabulary, seed), folder / "model.safetensors")
    sizes = {name: getattr(config, name) for name in config.__slots__ if name != "vocabulary"}
    fixed = {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(sizes | fixed, indent=1), encoding="utf-8")


def _texts(dataset: SquadDataset) -> Iterable[str]:
    for article in dataset.articles:
        for paragraph in article.paragraphs:
            yield paragraph.context
            yield from (question.text for question in paragraph.questions)


def _tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a word piece, no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _weights(config: TinyConfig, vocabulary: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = config.hidden_size
    weights: dict[str, Tensor] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        weights[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * 0.05

    def norm(name: str) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(hidden), torch.zeros(hidden)

    matrix("embeddings.word_embeddings", vocabulary, hidden)
    matrix("embeddings.position_embeddings", config.max_position_embeddings, hidden)
    matrix("embeddings.token_type_embeddings", config.type_vocab_size, hidden)
    norm("embeddings.LayerNorm")
    for layer in range(config.num_hidden_layers):
        root = f"encoder.layer.{layer}."
        shapes = {f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        shapes |= {
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (config.intermediate_size, hidden),
            "output.dense": (hidden, config.intermediate_size),
        }
        for name, (rows, columns) in shapes.items():
            matrix(root + name, rows, columns)
            weights[f"{root}{name}.bias"] = torch.zeros(rows)
        norm(f"{root}attention.output.LayerNorm")
        norm(f"{root}output.LayerNorm")
    return weights
