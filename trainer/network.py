"""The length-adaptive MiniLM in plain torch.

A BERT encoder (post layer norm) with Drop-and-Restore: a layer may drop the least significant tokens between
its attention and its feed-forward part; dropped tokens rejoin after the last layer (Length-Adaptive
Transformer, Kim and Cho 2021, sections 3.1 and 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store import Architecture
from model_store.architecture import SIGNIFICANCE_RANK

PADDING_LOGIT = -10000.0
"""Its probability is 0 in float32, so padding adds nothing to any loss."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to the longest of the batch.

    Attributes:
        token_ids: int64 ``[b, n]``.
        segment_starts: int64 ``[b]``, index of the first token of segment 1.
        lengths: int64 ``[b]``, real lengths.
    """

    token_ids: Tensor
    segment_starts: Tensor
    lengths: Tensor

    @property
    def real(self) -> Tensor:
        """Bool ``[b, n]``: whether a place holds a token and not padding."""
        return torch.arange(self.token_ids.shape[1], device=self.lengths.device)[None] < self.lengths[:, None]

    @property
    def question(self) -> Tensor:
        """Bool ``[b, n]``: the tokens of segment 0, [CLS] and [SEP] left out."""
        places = torch.arange(self.token_ids.shape[1], device=self.lengths.device)[None]
        return (places > 0) & (places < self.segment_starts[:, None] - 1)


class Embeddings(nn.Module):
    """Word, position and segment embeddings, summed and normalized."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.word = nn.Embedding(architecture.vocabulary, architecture.hidden)
        self.position = nn.Embedding(architecture.positions, architecture.hidden)
        self.segment = nn.Embedding(architecture.segments, architecture.hidden)
        self.norm = nn.LayerNorm(architecture.hidden, eps=architecture.layer_norm_epsilon)

    def forward(self, batch: Batch) -> Tensor:
        """``[b, n, hidden]``."""
        places = torch.arange(batch.token_ids.shape[1], device=batch.token_ids.device)
        in_context = (places[None] >= batch.segment_starts[:, None])[..., None]
        # two rows chosen by `where`: their gradients are plain sums, far cheaper than an index_put of all tokens
        segment = torch.where(in_context, self.segment.weight[1], self.segment.weight[0])
        normed: Tensor = self.norm(self.word(batch.token_ids) + self.position(places) + segment)
        return normed


class Scorer(nn.Linear):
    """Significance of a token as a score of its hidden state, and where it is bilinear of the question's mean one, too.

    ``(weight + token^T question q) . x + bias``, the two matrices ``[SIGNIFICANCE_RANK, hidden]``.  Untaught it is 0.
    """

    def __init__(self, hidden: int, *, bilinear: bool) -> None:
        super().__init__(hidden, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.bilinear = bilinear
        if bilinear:
            # with both at zero neither would get a gradient; the draw is the same in every run
            drawn = torch.randn(SIGNIFICANCE_RANK, hidden, generator=torch.Generator().manual_seed(0))
            self.question = nn.Parameter(drawn / math.sqrt(hidden))
            self.token = nn.Parameter(torch.zeros(SIGNIFICANCE_RANK, hidden))

    def score(self, states: Tensor, asking: Tensor) -> Tensor:
        """Scores in float32, whatever the precision of the rest.

        Args:
            states: ``[b, n, hidden]``.
            asking: bool ``[b, n]``, tokens of the question; where there are none their mean counts as 0.

        Returns:
            float32 ``[b, n]``.
        """
        states = states.float()
        vector = self.weight.float()
        if self.bilinear:
            asked = asking.float()[:, None]
            mean = (asked @ states)[:, 0] / asked.sum(2).clamp(min=1.0)
            vector = vector + mean @ self.question.float().T @ self.token.float()
        return (states @ vector[..., None]).squeeze(-1) + self.bias.float()


class Layer(nn.Module):
    """One encoder layer, in two halves between which tokens may be dropped."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.heads = architecture.heads
        self.qkv = nn.Linear(architecture.hidden, 3 * architecture.hidden)
        self.attention_output = nn.Linear(architecture.hidden, architecture.hidden)
        self.attention_norm = nn.LayerNorm(architecture.hidden, eps=architecture.layer_norm_epsilon)
        self.intermediate = nn.Linear(architecture.hidden, architecture.intermediate)
        self.output = nn.Linear(architecture.intermediate, architecture.hidden)
        self.output_norm = nn.LayerNorm(architecture.hidden, eps=architecture.layer_norm_epsilon)
        if architecture.scores_states:
            self.significance = Scorer(architecture.hidden, bilinear=architecture.significance == "bilinear")

    def attend(self, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Self-attention with residual and layer norm.

        Args:
            hidden: ``[b, n, hidden]``.
            bias: ``[b, 1, 1, n]``, 0 for tokens and a large negative number for padding.

        Returns:
            The new hidden states ``[b, n, hidden]`` and the attention probabilities ``[b, heads, n, n]``.
        """
        size, count, width = hidden.shape
        head_width = width // self.heads
        qkv = self.qkv(hidden).view(size, count, 3, self.heads, head_width).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        # plain matmul and softmax: the backward of masked scaled_dot_product_attention is slower on CPUs
        scores = torch.matmul(query * (1.0 / math.sqrt(head_width)), key.transpose(-1, -2)) + bias
        probabilities = scores.softmax(-1)
        mixed = torch.matmul(probabilities, value).transpose(1, 2).reshape(size, count, width)
        return self.attention_norm(hidden + self.attention_output(mixed)), probabilities

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Feed-forward part with residual and layer norm, ``[b, n, hidden]``."""
        inner = self.output(functional.gelu(self.intermediate(hidden)))
        normed: Tensor = self.output_norm(hidden + inner)
        return normed


def significance(probabilities: Tensor, real: Tensor, asking: Tensor | None = None) -> Tensor:
    """Attention that each token receives: probabilities summed over heads and asking queries.

    Args:
        probabilities: ``[b, heads, n, n]`` (query, key), after softmax.
        real: bool ``[b, n]``.
        asking: bool ``[b, n]``, none of them padding; None takes all of `real`.

    Returns:
        float32 ``[b, n]``; minus infinity for padding.  Kim and Cho 2021, section 3.1 (from PoWER-BERT), where all
        real tokens ask; that the question's alone may is ours (trainer/LOG.md).
    """
    queries = real if asking is None else asking
    received = torch.matmul(queries[:, None, None].to(probabilities.dtype), probabilities)
    return received.float().sum((1, 2)).masked_fill(~real, -math.inf)


def most_significant(scores: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the `counts` most significant tokens of each sample, in reading order.

    Ties are broken by place, the earlier token first.

    Args:
        scores: float32 ``[b, n]``, minus infinity for padding.
        counts: int64 ``[b]``, tokens to keep, at most the real tokens of each sample.

    Returns:
        Places int64 ``[b, k]`` with ``k = max(counts)``, and bool ``[b, k]``: whether a place is kept.
        The places behind a sample's own count repeat unkept tokens and count as padding.
    """
    most = int(counts.max())
    ranked = scores.argsort(dim=1, descending=True, stable=True)[:, :most]
    kept = torch.arange(most, device=scores.device)[None] < counts[:, None]
    beyond = scores.shape[1]
    order = torch.where(kept, ranked, ranked + beyond).argsort(dim=1)
    return ranked.gather(1, order), kept


class LengthAdaptiveMiniLM(nn.Module):
    """BERT encoder with Drop-and-Restore and a question answering head (row 0 start, row 1 end)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embeddings = Embeddings(architecture)
        self.layers = nn.ModuleList(Layer(architecture) for _ in range(architecture.layers))
        self.head = nn.Linear(architecture.hidden, 2)

    def forward(
        self,
        batch: Batch,
        kept: Tensor | None = None,
        *,
        protected: Tensor | None = None,
        skipped: Sequence[bool] | None = None,
        scores: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Start and end logits.

        Args:
            batch: padded windows.
            kept: int64 ``[layers, b]``, tokens that each layer keeps of each sample; None keeps all.
            protected: bool ``[b, n]``, tokens that go last, whatever their significance; None protects none.
            skipped: for each layer, whether it is left out (LayerDrop); None leaves out none.
            scores: gets the learned significance of every layer in turn, ``[b, n]`` each, where all is kept.

        Returns:
            float32 ``[b, n]`` each; `PADDING_LOGIT` at padding.
        """
        encoded = self.encode(batch, kept, protected=protected, skipped=skipped, scores=scores)
        logits = self.head(encoded).float().masked_fill(~batch.real[..., None], PADDING_LOGIT)
        return logits[..., 0], logits[..., 1]

    def encode(
        self,
        batch: Batch,
        kept: Tensor | None = None,
        *,
        protected: Tensor | None = None,
        skipped: Sequence[bool] | None = None,
        scores: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states ``[b, n, hidden]`` with dropped tokens restored; arguments as of `forward`."""
        hidden = self.embeddings(batch).to(self.head.weight.dtype)
        left_out = [False] * len(self.layers) if skipped is None else skipped
        if kept is None:
            return self._encode(hidden, batch, left_out, scores)
        asking = batch.real if self.architecture.significance == "all" else batch.question
        return self._drop_and_restore(hidden, batch.real, asking, kept, protected, left_out)

    def last_projections(self, batch: Batch) -> tuple[Tensor, ...]:
        """Queries, keys and values of the last layer, ``[b, n, hidden]`` each, all heads side by side; all is kept."""
        *before, last = self.layers
        assert isinstance(last, Layer)
        hidden = self.encode(batch, skipped=[*(False for _ in before), True])
        projections: tuple[Tensor, ...] = last.qkv(hidden).chunk(3, dim=-1)
        return projections

    def _encode(
        self, hidden: Tensor, batch: Batch, skipped: Sequence[bool], scores: list[Tensor] | None = None
    ) -> Tensor:
        bias = attention_bias(batch.real, hidden.dtype)
        for layer, skip in zip(self.layers, skipped, strict=True):
            assert isinstance(layer, Layer)
            if skip:
                continue
            hidden = layer.attend(hidden, bias)[0]
            if scores is not None and self.architecture.scores_states:
                scores.append(layer.significance.score(hidden, batch.question))
            hidden = layer.feed_forward(hidden)
        return hidden

    def _drop_and_restore(  # noqa: PLR0913, PLR0917 - what `encode` was given, with what it worked out of it
        self,
        hidden: Tensor,
        real: Tensor,
        asking: Tensor,
        kept: Tensor,
        protected: Tensor | None,
        skipped: Sequence[bool],
    ) -> Tensor:
        restored = hidden
        places = torch.arange(hidden.shape[1], device=hidden.device)[None].expand(hidden.shape[0], -1)
        for layer, counts, skip in zip(self.layers, kept, skipped, strict=True):
            assert isinstance(layer, Layer)
            if skip:
                continue
            hidden, probabilities = layer.attend(hidden, attention_bias(real, hidden.dtype))
            if bool((counts < real.sum(1)).any()):
                scores = self._scores(layer, hidden.detach(), probabilities.detach(), real, asking.gather(1, places))
                if protected is not None:
                    scores = scores.masked_fill(protected.gather(1, places) & real, math.inf)
                chosen, real = most_significant(scores, counts)
                hidden = hidden.gather(1, _rows(chosen, hidden))
                places = places.gather(1, chosen)
            hidden = layer.feed_forward(hidden)
            # padding must not overwrite: a padded place keeps what stands there
            update = torch.where(real[..., None], hidden, restored.gather(1, _rows(places, hidden)))
            restored = restored.scatter(1, _rows(places, hidden), update)
        return restored

    def _scores(self, layer: Layer, attended: Tensor, probabilities: Tensor, real: Tensor, asking: Tensor) -> Tensor:
        if self.architecture.scores_states:
            return layer.significance.score(attended, asking & real).detach().masked_fill(~real, -math.inf)
        return significance(probabilities, real, asking & real)


def attention_bias(real: Tensor, dtype: torch.dtype) -> Tensor:
    """``[b, 1, 1, n]``: 0 for tokens, -10000 for padding."""
    return torch.zeros(real.shape, dtype=dtype, device=real.device).masked_fill(~real, -10000.0)[:, None, None]


def _rows(places: Tensor, hidden: Tensor) -> Tensor:
    return places[..., None].expand(-1, -1, hidden.shape[-1])
