"""BERT as Hugging Face's transformers has it, and its export to ONNX.  Imports torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForQuestionAnswering
from transformers.utils import logging

from benchmarks.peers.weights import OURS, architecture_of, float_tensors
from model_store import Architecture, ModelStore, Tensors

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

_SEED = 0
_EXAMPLE_TOKENS = 32
_UNKNOWN_TYPE = 1  # onnx.TensorProto.FLOAT, for what shape inference does not know: ONNX Runtime's own operators
_EMBEDDINGS = {
    "word_embeddings.weight": "word",
    "position_embeddings.weight": "position",
    "token_type_embeddings.weight": "segment",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
}
_LAYER = {
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def load_bert(model: str, store: ModelStore, spec: str, attention: str = "sdpa") -> Any:
    """A ``BertForQuestionAnswering`` in evaluation mode.

    Args:
        model: ``ours``, the artifact's weights in float32; else one of `weights.SHAPES` with seeded random weights.
        store: where the artifact is.
        spec: NAME or NAME@VERSION.
        attention: transformers' ``attn_implementation``.
    """
    architecture = architecture_of(model, store, spec)
    torch.manual_seed(_SEED)
    logging.set_verbosity_error()
    network = BertForQuestionAnswering(_config(architecture, attention))
    if model == OURS:
        tensors = float_tensors(store.load(spec).load_tensors(), architecture)
        network.load_state_dict(state_dict(tensors, architecture))
    return network.eval()


def state_dict(tensors: Tensors, architecture: Architecture) -> dict[str, Tensor]:
    """The tensors of the scheme ``none`` under transformers' names."""
    source = {f"bert.embeddings.{theirs}": tensors[f"embeddings.{ours}"] for theirs, ours in _EMBEDDINGS.items()}
    for layer in range(architecture.layers):
        root, other = f"layers.{layer}", f"bert.encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            parts = np.split(tensors[f"{root}.qkv.{kind}"], 3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                source[f"{other}.attention.self.{name}.{kind}"] = part
            source |= {f"{other}.{theirs}.{kind}": tensors[f"{root}.{ours}.{kind}"] for theirs, ours in _LAYER.items()}
    source |= {f"qa_outputs.{kind}": tensors[f"head.{kind}"] for kind in ("weight", "bias")}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in source.items()}


def export_onnx(network: Any, path: Path) -> None:
    """Write `network` with a free length; its attention must be ``eager``, which ONNX Runtime can fuse."""
    ids = torch.ones((1, _EXAMPLE_TOKENS), dtype=torch.int64)
    names = (*INPUTS, "start", "end")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer is deprecated, and says so; the other exporter needs onnxscript
        torch.onnx.export(
            _Tuple(network),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(path),
            input_names=list(INPUTS),
            output_names=["start", "end"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )


def quantize_onnx(source: Path, path: Path) -> None:
    """ONNX Runtime's dynamic quantization: int8 weights per channel, activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = {"DefaultTensorType": _UNKNOWN_TYPE}
    quantize_dynamic(str(source), str(path), per_channel=True, weight_type=QuantType.QInt8, extra_options=options)


def fuse_onnx(source: Path, path: Path, architecture: Architecture) -> None:
    """ONNX Runtime's own optimizer for BERT, which puts whole attention layers into one operator each."""
    from onnxruntime.transformers.optimizer import optimize_model

    fused = optimize_model(
        str(source), model_type="bert", num_heads=architecture.heads, hidden_size=architecture.hidden, opt_level=1
    )
    fused.save_model_to_file(str(path))


class _Tuple(nn.Module):
    """Tensors in, tensors out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(input_ids=ids, attention_mask=mask, token_type_ids=segments, return_dict=True)
        return found.start_logits, found.end_logits


def _config(architecture: Architecture, attention: str) -> Any:
    return BertConfig(
        vocab_size=architecture.vocabulary,
        hidden_size=architecture.hidden,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.intermediate,
        max_position_embeddings=architecture.positions,
        type_vocab_size=architecture.segments,
        layer_norm_eps=architecture.layer_norm_epsilon,
        attn_implementation=attention,
    )
