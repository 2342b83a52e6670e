"""The length-adaptive encoder as an OpenVINO graph, built from an artifact's neutral tensors.

One window at a time (batch 1).  Inputs, all int32:

- ``token_ids`` ``[n]``: a window padded to its length bucket;
- ``segment_start`` ``[]``: index of the first token of segment 1;
- ``real_length`` ``[]``: tokens that are no padding;
- ``kept`` ``[layers]``: tokens that each layer keeps, non-increasing, at most ``real_length``;
- ``rows`` ``[layers]``: rows that each layer hands on, at least as many; what is not a kept token is padding.

Outputs, float32 ``[n + 1]``: ``start`` and ``end`` logits; the last of each, and those of padding, mean nothing.

The graph without dropping, for the configuration that keeps every token, has neither ``kept`` nor ``rows`` nor
anything to rank, gather and restore, which takes 5 to 8% of the full configuration's time in the other graph; its
outputs have shape ``[n]``.

The runtime makes kernels per shape, and shapes follow ``rows``: rounded up, they are few for any text.

Drop-and-Restore (Kim and Cho 2021, section 3.3) restores hidden states and then applies the head.  The head
works token by token, so here each layer's kept tokens go through the head and their *logits* are restored:
the same numbers, with two columns to scatter instead of all hidden ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as op

from model_store.architecture import Architecture

Node = Any  # openvino.Node; its stubs lack most operators
Tensors = Mapping[str, NDArray[Any]]

PADDING_BIAS = -10000.0
LEAST_SCORE = -1e30
"""Of padding; also in bf16 less than any token's."""


def build_graph(
    architecture: Architecture, tensors: Tensors, *, dropping: bool = True, integer_products: bool = True
) -> ov.Model:
    """The graph of an artifact's tensors (``model_store/FORMAT.md``, "Arithmetic"), in integers where they are.

    Args:
        architecture: of the model.
        tensors: of the scheme ``int8`` or ``none``.
        dropping: whether layers drop tokens.
        integer_products: let the runtime multiply integers.  Otherwise it multiplies the same integers held
            in floating point: slower, and right on processors whose 8-bit products saturate.
    """
    builder = _Builder(architecture, tensors, integer_products=integer_products)
    return builder.dropping() if dropping else builder.whole()


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What stands for the tokens that are left, one row each: hidden states, places, whether real, whether asking."""

    hidden: Node
    places: Node
    real: Node
    asking: Node


class _Builder:
    def __init__(self, architecture: Architecture, tensors: Tensors, *, integer_products: bool) -> None:
        self.integer_products = integer_products
        self.architecture = architecture
        self.tensors = tensors
        self.token_ids = op.parameter([-1], np.int32, name="token_ids")
        self.segment_start = op.parameter([], np.int32, name="segment_start")
        self.real_length = op.parameter([], np.int32, name="real_length")
        self.kept = op.parameter([architecture.layers], np.int32, name="kept")
        self.rows = op.parameter([architecture.layers], np.int32, name="rows")

    def dropping(self) -> ov.Model:
        tokens = self._every_token()
        logits = op.concat([self._head(tokens.hidden), _const(np.zeros((1, 2)), np.float32)], 0)
        for layer in range(self.architecture.layers):
            attended, scores = self._attend(layer, tokens)
            kept = self._most_significant(replace(tokens, hidden=attended), scores, layer)
            tokens = replace(kept, hidden=self._feed_forward(layer, kept.hidden))
            logits = op.scatter_update(logits, tokens.places, self._head(tokens.hidden), _const(0, np.int32))
        return self._model(logits, [self.kept, self.rows])

    def whole(self) -> ov.Model:
        tokens = self._every_token()
        for layer in range(self.architecture.layers):
            attended, _ = self._attend(layer, tokens)
            tokens = replace(tokens, hidden=self._feed_forward(layer, attended))
        return self._model(self._head(tokens.hidden), [])

    def _every_token(self) -> _Tokens:
        count = op.squeeze(op.shape_of(self.token_ids, output_type="i32"), _const([0], np.int64))
        self.places = _range(count)
        self.nowhere = count
        real = op.less(self.places, self.real_length)
        return _Tokens(self._embeddings(), self.places, real, self._asking(real))

    def _asking(self, real: Node) -> Node:
        """Whether a token's attention, or its part in the question's mean state, makes others significant, ``[n]``."""
        if self.architecture.significance == "all":
            return real
        after = op.greater(self.places, _const(0, np.int32))
        before = op.less(self.places, op.subtract(self.segment_start, _const(1, np.int32)))
        return op.logical_and(after, before)

    def _model(self, logits: Node, inputs: list[Node]) -> ov.Model:
        columns = op.split(logits, _const(1, np.int64), 2)
        results = []
        for name, column in zip(("start", "end"), columns.outputs(), strict=True):
            flat = op.squeeze(column, _const([1], np.int64))
            flat.output(0).set_names({name})
            results.append(op.result(flat, name=name))
        parameters = [self.token_ids, self.segment_start, self.real_length, *inputs]
        for parameter in parameters:
            parameter.output(0).set_names({parameter.get_friendly_name()})
        return ov.Model(results, parameters, "length_adaptive_minilm")

    def _embeddings(self) -> Node:
        words = self._words()
        positions = op.gather(self._constant("embeddings.position"), self.places, _const(0, np.int32))
        in_context = op.convert(op.greater_equal(self.places, self.segment_start), np.int32)
        segments = op.gather(self._constant("embeddings.segment"), in_context, _const(0, np.int32))
        return self._norm(op.add(op.add(words, positions), segments), "embeddings.norm")

    def _words(self) -> Node:
        rows = op.gather(self._constant("embeddings.word"), self.token_ids, _const(0, np.int32))
        if "embeddings.word.scale" not in self.tensors:
            return rows
        scales = op.gather(self._constant("embeddings.word.scale"), self.token_ids, _const(0, np.int32))
        return op.multiply(op.convert(rows, np.float32), op.unsqueeze(scales, _const([1], np.int64)))

    def _attend(self, layer: int, tokens: _Tokens) -> tuple[Node, Node]:
        """Hidden states after attention ``[n, hidden]``, and the tokens' significance ``[n]``."""
        root = f"layers.{layer}"
        mixed, probabilities = self._attention(f"{root}.qkv", tokens)
        attended = self._linear(mixed, f"{root}.attention_output")
        hidden = self._norm(op.add(tokens.hidden, attended), f"{root}.attention_norm")
        if not self.architecture.scores_states:
            return hidden, self._received(probabilities, tokens.asking)
        weight, bias = (self._constant(f"{root}.significance.{part}") for part in ("weight", "bias"))
        if self.architecture.significance == "bilinear":
            weight = op.add(weight, self._asked(f"{root}.significance", hidden, tokens.asking))
        product = op.matmul(hidden, weight, transpose_a=False, transpose_b=True)
        return hidden, op.squeeze(op.add(product, bias), _const([1], np.int64))

    def _asked(self, name: str, hidden: Node, asking: Node) -> Node:
        """What the question's mean state adds to the vector that scores tokens, ``[1, hidden]``; 0 if nobody asks."""
        one, none = _const([[1.0]], np.float32), _const([0], np.int64)
        ones = op.unsqueeze(_either(asking, 1.0, 0.0), none)
        count = op.maximum(op.reduce_sum(ones, _const([1], np.int64), keep_dims=True), one)
        mean = op.divide(op.matmul(ones, hidden, transpose_a=False, transpose_b=False), count)
        projected = op.matmul(mean, self._constant(f"{name}.question"), transpose_a=False, transpose_b=True)
        return op.matmul(projected, self._constant(f"{name}.token"), transpose_a=False, transpose_b=False)

    def _feed_forward(self, layer: int, hidden: Node) -> Node:
        root = f"layers.{layer}"
        inner = op.gelu(self._linear(hidden, f"{root}.intermediate"), "erf")
        return self._norm(op.add(hidden, self._linear(inner, f"{root}.output")), f"{root}.output_norm")

    def _attention(self, name: str, tokens: _Tokens) -> tuple[Node, Node]:
        """Mixed values ``[n, hidden]`` and probabilities ``[heads, n, n]``, by query and key.

        Where nothing else reads the probabilities, the runtime fuses all of it into one kernel.
        """
        heads = self.architecture.heads
        width = self.architecture.hidden // heads
        # the query rows carry 1 / sqrt(width) already: one pass over the scores less
        factor = np.ones((3 * self.architecture.hidden, 1), np.float32)
        factor[: self.architecture.hidden] = 1.0 / math.sqrt(width)
        rows = self._linear(tokens.hidden, name, factor)
        qkv = op.reshape(rows, _const([0, 3, heads, width], np.int64), special_zero=True)
        parts = op.split(op.transpose(qkv, _const([1, 2, 0, 3], np.int64)), _const(0, np.int64), 3).outputs()
        query, key, value = (op.squeeze(part, _const([0], np.int64)) for part in parts)
        bias = _either(tokens.real, 0.0, PADDING_BIAS)
        probabilities = op.softmax(op.add(op.matmul(query, key, transpose_a=False, transpose_b=True), bias), 2)
        mixed = op.transpose(
            op.matmul(probabilities, value, transpose_a=False, transpose_b=False), _const([1, 0, 2], np.int64)
        )
        return op.reshape(mixed, _const([0, self.architecture.hidden], np.int64), special_zero=True), probabilities

    def _received(self, probabilities: Node, asking: Node) -> Node:
        """Attention that each token receives from those that ask, ``[n]``."""
        asked = op.reshape(_either(asking, 1.0, 0.0), _const([1, 1, -1], np.int64), special_zero=False)
        sums = op.matmul(asked, probabilities, transpose_a=False, transpose_b=False)
        return op.reduce_sum(sums, _const([0, 1], np.int64))

    def _most_significant(self, tokens: _Tokens, scores: Node, layer: int) -> _Tokens:
        """The tokens that `layer` keeps, most significant first, then padding; ties go to the earlier token."""
        kept, rows = (op.gather(each, _const(layer, np.int32), _const(0, np.int32)) for each in (self.kept, self.rows))
        ranked = op.select(tokens.real, scores, _const(LEAST_SCORE, np.float32))
        chosen = op.topk(ranked, rows, 0, "max", "value", index_element_type="i32", stable=True).output(1)
        hidden, places, asking = (
            op.gather(each, chosen, _const(0, np.int32)) for each in (tokens.hidden, tokens.places, tokens.asking)
        )
        real = op.less(_range(rows), kept)  # never more than there are real tokens, which rank first
        asking = real if tokens.asking is tokens.real else op.logical_and(asking, real)
        return _Tokens(hidden, op.select(real, places, self.nowhere), real, asking)

    def _linear(self, source: Node, name: str, factor: NDArray[np.float32] | None = None) -> Node:
        """``FakeQuantize -> MatMul -> bias``, which the CPU plugin turns into one u8 x s8 kernel; or plain floats."""
        factor = np.ones((1, 1), np.float32) if factor is None else factor
        if f"{name}.weight_scale" in self.tensors:
            source = self._quantized(source, name)
        product = op.matmul(source, self._weight(name, factor), transpose_a=False, transpose_b=True)
        return op.add(product, _const(self.tensors[f"{name}.bias"][None] * factor.reshape(1, -1), np.float32))

    def _quantized(self, source: Node, name: str) -> Node:
        zero = float(self.tensors[f"{name}.input_zero_point"][0])
        step = self.tensors[f"{name}.input_scale"]
        return op.fake_quantize(
            source,
            _const(-zero * step, np.float32),
            _const((255.0 - zero) * step, np.float32),
            _const([-zero], np.float32),
            _const([255.0 - zero], np.float32),
            256,
        )

    def _weight(self, name: str, factor: NDArray[np.float32]) -> Node:
        weight = self.tensors[f"{name}.weight"]
        if f"{name}.weight_scale" not in self.tensors:
            return _const(weight * factor, np.float32)
        scale = self.tensors[f"{name}.weight_scale"][:, None] * factor
        if not self.integer_products:
            return _const(weight * scale, np.float32)
        return op.multiply(op.convert(op.constant(weight), np.float32), _const(scale, np.float32))

    def _norm(self, source: Node, name: str) -> Node:
        axes = _const([1], np.int64)
        epsilon = self.architecture.layer_norm_epsilon
        normal = op.mvn(source, axes, normalize_variance=True, eps=epsilon, eps_mode="inside_sqrt")
        scaled = op.multiply(normal, self._constant(f"{name}.weight"))
        return op.add(scaled, self._constant(f"{name}.bias"))

    def _head(self, hidden: Node) -> Node:
        product = op.matmul(hidden, self._constant("head.weight"), transpose_a=False, transpose_b=True)
        return op.add(product, self._constant("head.bias"))

    def _constant(self, name: str) -> Node:
        return op.constant(self.tensors[name])


def _range(count: Node) -> Node:
    return op.range(_const(0, np.int32), count, _const(1, np.int32), output_type="i32")


def _either(condition: Node, yes: float, no: float) -> Node:
    """Float32 by a condition.

    A conversion of the condition, scaled, would do; but the runtime takes that for a dequantization, moves it across
    the additions behind it, and adds attention scores to masks in units of the mask: 10,000.
    """
    return op.select(condition, _const(yes, np.float32), _const(no, np.float32))


def _const(value: Any, dtype: Any) -> Node:
    return op.constant(np.asarray(value, dtype=dtype))
