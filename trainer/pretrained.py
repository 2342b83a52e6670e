"""Hugging Face BERT checkpoints in, networks out; and our own weights, as safetensors both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from model_store import Architecture
from trainer.network import LengthAdaptiveMiniLM
from trainer.tensor_files import read_file, write_file

_PREFIXES = ("bert.", "")
_EMBEDDINGS = {
    "embeddings.word.weight": "embeddings.word_embeddings.weight",
    "embeddings.position.weight": "embeddings.position_embeddings.weight",
    "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
    "embeddings.norm.weight": "embeddings.LayerNorm.weight",
    "embeddings.norm.bias": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def resolve_checkpoint(name_or_folder: str) -> Path:
    """The local folder of a checkpoint; a hub name is downloaded (weights, config and tokenizer only).

    Raises:
        FileNotFoundError: neither a folder nor a name that the hub knows or that is in the local cache.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        patterns = ["config.json", "model.safetensors", "tokenizer.json"]
        return Path(snapshot_download(name_or_folder, allow_patterns=patterns))
    except Exception as error:
        raise FileNotFoundError(f"{name_or_folder!r} is no local folder, and the hub gave: {error}") from error


def read_architecture(folder: Path) -> Architecture:
    """The sizes in a checkpoint's ``config.json``.

    Raises:
        ValueError: not a BERT encoder of the kind that the network computes.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, wanted in {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"{folder}: {key} is {config[key]!r}, but the network computes {wanted!r} only")
    try:
        return Architecture(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            segments=config["type_vocab_size"],
            layer_norm_epsilon=config["layer_norm_eps"],
        )
    except KeyError as error:
        raise ValueError(f"{folder}: config.json lacks {error}") from error


def run_architecture(run: Path, checkpoint: Path) -> Architecture:
    """The sizes of the checkpoint, with what `prepare` set for the run.

    Args:
        run: folder with ``run.json``.
        checkpoint: folder with ``config.json``.

    Raises:
        OSError: one of the files is missing.
        ValueError: as of `read_architecture`, or a damaged ``run.json``.
    """
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return replace(read_architecture(checkpoint), significance=facts.get("significance", "all"))


def load_pretrained(name_or_folder: str, seed: int) -> LengthAdaptiveMiniLM:
    """A network with a checkpoint's encoder; a head that the checkpoint lacks is drawn by `seed`.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: another architecture, or tensors missing or of the wrong shape.
    """
    folder = resolve_checkpoint(name_or_folder)
    network = LengthAdaptiveMiniLM(read_architecture(folder))
    source = read_file(folder / "model.safetensors")
    try:
        state = _converted(source, network.architecture.layers)
        if "qa_outputs.weight" in source:
            state |= {"head.weight": source["qa_outputs.weight"], "head.bias": source["qa_outputs.bias"]}
        else:
            generator = torch.Generator().manual_seed(seed)
            state["head.weight"] = torch.randn(2, network.architecture.hidden, generator=generator) * 0.02
            state["head.bias"] = torch.zeros(2)
    except KeyError as error:
        raise ValueError(f"{folder} lacks the tensor {error}") from error
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ValueError(f"{folder} does not fit its own config.json: {error}") from error
    return network


def _converted(source: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    prefix = next((p for p in _PREFIXES if p + "embeddings.word_embeddings.weight" in source), None)
    if prefix is None:
        raise ValueError("no BERT word embeddings in the checkpoint")
    state = {ours: source[prefix + theirs] for ours, theirs in _EMBEDDINGS.items()}
    for layer in range(layers):
        root = f"{prefix}encoder.layer.{layer}."
        for kind in ("weight", "bias"):
            parts = [source[f"{root}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"layers.{layer}.qkv.{kind}"] = torch.cat(parts)
            for ours, theirs in _LAYER.items():
                state[f"layers.{layer}.{ours}.{kind}"] = source[f"{root}{theirs}.{kind}"]
    return state


def save_weights(network: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write all weights as safetensors, by way of a temporary file."""
    temporary = path.with_suffix(".tmp")
    write_file(network.state_dict(), temporary, metadata)
    temporary.replace(path)


def load_weights(path: Path, architecture: Architecture) -> LengthAdaptiveMiniLM:
    """A network with the weights that `save_weights` wrote; a learned significance that they lack is 0 for every token.

    Raises:
        ValueError: the file's tensors are not those of a network of this architecture.
    """
    network = LengthAdaptiveMiniLM(architecture)
    untaught = {name: each for name, each in network.state_dict().items() if ".significance." in name}
    try:
        network.load_state_dict(untaught | read_file(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold a network of {architecture}: {error}") from error
    return network
