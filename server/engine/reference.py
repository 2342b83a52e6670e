"""The oracle: the artifact's arithmetic in plain float32 torch, window by window, without padding.

Slow and plainly right.  For an int8 artifact the linear layers round their inputs as FORMAT.md says and
multiply integers held in float32; the sums are exact in a float64 product.  For an artifact of the scheme
``none`` it is the float network itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from model_store.length_config import LengthConfiguration
from server.engine.checks import check_call
from server.engine.interface import EngineInfo, EngineResult, WindowLogits, WindowTokens

if TYPE_CHECKING:
    from model_store.artifact import Artifact


class ReferenceEngine:
    """Runs any artifact in float32 torch.

    Args:
        artifact: of any quantization scheme.
        threads: set for the whole process, as torch has no other way.
    """

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._architecture = artifact.manifest.architecture
        self._quantized = artifact.manifest.quantization.scheme == "int8"
        self._tensors = {name: torch.from_numpy(tensor) for name, tensor in artifact.load_tensors().items()}
        if self._quantized:
            words = self._tensors["embeddings.word"].float()
            self._tensors["embeddings.word"] = words * self._tensors["embeddings.word.scale"][:, None]
        precision = "int8 simulated in f32" if self._quantized else "f32"
        self.info = EngineInfo("reference", "torch CPU", threads, precision)

    def warm_up(self, configurations: Sequence[LengthConfiguration]) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Free the weights."""
        self._tensors = {}

    @torch.inference_mode()
    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        """Logits of `windows`; raises as the interface says."""
        check_call(self._architecture, windows, configuration)
        began = time.monotonic_ns()
        logits = tuple(self._window(window, configuration) for window in windows)
        return EngineResult(logits, time.monotonic_ns() - began)

    def _window(self, window: WindowTokens, configuration: LengthConfiguration) -> WindowLogits:
        count = len(window.token_ids)
        places = torch.arange(count)
        hidden = self._embed(torch.from_numpy(window.token_ids).long(), places, window.segment_start)
        restored = hidden.clone()
        asking = self._asking(places, window.segment_start)
        for layer, kept in enumerate(configuration.kept_tokens(count)):
            hidden, probabilities = self._attend(f"layers.{layer}", hidden)
            if kept < len(places):
                significance = self._significance(layer, hidden, probabilities, asking[places])
                chosen = significance.argsort(descending=True, stable=True)[:kept].sort().values
                hidden, places = hidden[chosen], places[chosen]
            hidden = self._feed_forward(f"layers.{layer}", hidden)
            restored[places] = hidden
        logits = functional.linear(restored, self._tensors["head.weight"], self._tensors["head.bias"])
        return WindowLogits(logits[:, 0].numpy().copy(), logits[:, 1].numpy().copy())

    def _significance(self, layer: int, hidden: Tensor, probabilities: Tensor, asking: Tensor) -> Tensor:
        """``[n]``, of the attention of those that ask, or scored from the hidden states."""
        if not self._architecture.scores_states:
            return probabilities[:, asking].sum((0, 1))
        root = f"layers.{layer}.significance"
        vector, bias = self._tensors[f"{root}.weight"], self._tensors[f"{root}.bias"]
        if self._architecture.significance == "bilinear" and bool(asking.any()):
            question, token = self._tensors[f"{root}.question"], self._tensors[f"{root}.token"]
            vector = vector + hidden[asking].mean(0) @ question.T @ token
        return functional.linear(hidden, vector, bias)[:, 0]

    def _asking(self, places: Tensor, segment_start: int) -> Tensor:
        """Bool ``[n]``: the tokens whose attention makes others significant, or whose mean state does."""
        if self._architecture.significance == "all":
            return torch.ones_like(places, dtype=torch.bool)
        return (places > 0) & (places < segment_start - 1)

    def _embed(self, ids: Tensor, places: Tensor, segment_start: int) -> Tensor:
        get = self._tensors
        segments = (places >= segment_start).long()
        summed = get["embeddings.word"][ids] + get["embeddings.position"][places] + get["embeddings.segment"][segments]
        return self._norm("embeddings.norm", summed)

    def _attend(self, root: str, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[n, hidden]`` and attention probabilities ``[heads, n, n]`` (query, key)."""
        count, heads = hidden.shape[0], self._architecture.heads
        query, key, value = self._linear(f"{root}.qkv", hidden).view(count, 3, heads, -1).permute(1, 2, 0, 3)
        probabilities = (query @ key.transpose(1, 2) / math.sqrt(self._architecture.head_size)).softmax(-1)
        mixed = (probabilities @ value).transpose(0, 1).reshape(count, -1)
        attended = hidden + self._linear(f"{root}.attention_output", mixed)
        return self._norm(f"{root}.attention_norm", attended), probabilities

    def _feed_forward(self, root: str, hidden: Tensor) -> Tensor:
        inner = functional.gelu(self._linear(f"{root}.intermediate", hidden))
        return self._norm(f"{root}.output_norm", hidden + self._linear(f"{root}.output", inner))

    def _linear(self, name: str, source: Tensor) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        if not self._quantized:
            return functional.linear(source, weight, bias)
        zero = self._tensors[f"{name}.input_zero_point"].float()
        rounded = torch.clamp(torch.round(source / self._tensors[f"{name}.input_scale"]) + zero, 0, 255) - zero
        sums = functional.linear(rounded.double(), weight.double()).float()
        return sums * self._tensors[f"{name}.weight_scale"] + bias

    def _norm(self, name: str, source: Tensor) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.layer_norm(source, weight.shape, weight, bias, self._architecture.layer_norm_epsilon)
