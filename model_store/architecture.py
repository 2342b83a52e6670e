"""The shape of the network that an artifact holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_store.errors import InvalidManifestError

MAXIMUM_LAYERS = 256
MAXIMUM_DIMENSION = 1 << 24
SIGNIFICANCES = ("all", "question", "learned", "bilinear")
SIGNIFICANCE_RANK = 48
"""Rows R of the two matrices of a bilinear significance."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A BERT encoder with a span head (Devlin et al. 2019, sections 3 and 4.2).

    Attributes:
        layers: encoder layers.
        hidden: width H of the residual stream, a multiple of `heads`.
        heads: attention heads.
        intermediate: width F of the feed-forward part.
        vocabulary: word pieces V.
        positions: longest window P, in tokens.
        segments: token types S.
        layer_norm_epsilon: added to the variance.
        activation: ``gelu``, the exact one with erf.
        family: ``bert``.
        significance: whose attention makes a token significant, when a layer drops tokens: ``all``, every token's
            (Kim and Cho 2021, section 3.1), ``question``, that of the tokens of segment 0, [CLS] and [SEP] left out, or
            ``learned``: nobody's, but a linear score of the token's own hidden state, or ``bilinear``: a score of that
            state and of the question's mean one.

    Raises:
        InvalidManifestError: a dimension that is no positive integer or absurdly large, a hidden size that
            the heads do not divide, or an unknown family, activation or significance.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    segments: int = 2
    layer_norm_epsilon: float = 1e-12
    activation: str = "gelu"
    family: str = "bert"
    significance: str = "all"

    def __post_init__(self) -> None:
        dimensions = ("layers", "hidden", "heads", "intermediate", "vocabulary", "positions", "segments")
        for key in dimensions:
            limit = MAXIMUM_LAYERS if key == "layers" else MAXIMUM_DIMENSION
            if not 1 <= getattr(self, key) <= limit:
                raise InvalidManifestError(f"architecture.{key} must be in 1..{limit}, got {getattr(self, key)!r:.40}")
        if self.hidden % self.heads:
            raise InvalidManifestError(f"architecture: hidden {self.hidden} is no multiple of heads {self.heads}")
        if not (math.isfinite(self.layer_norm_epsilon) and 0.0 < self.layer_norm_epsilon < 1.0):
            raise InvalidManifestError(f"architecture.layer_norm_epsilon {self.layer_norm_epsilon} is not in (0, 1)")
        if self.family != "bert" or self.activation != "gelu":
            raise InvalidManifestError(
                f"architecture: family {self.family!r:.40} with activation {self.activation!r:.40} is not supported "
                "(supported: family 'bert', activation 'gelu')"
            )
        if self.significance not in SIGNIFICANCES:
            raise InvalidManifestError(
                f"architecture.significance must be one of {', '.join(SIGNIFICANCES)}, got {self.significance!r:.40}"
            )

    @property
    def scores_states(self) -> bool:
        """Whether significance is a score of hidden states, and no sum of attention."""
        return self.significance in {"learned", "bilinear"}

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """Name and shape of one linear layer of the encoder; these are the quantized ones."""

    name: str
    outputs: int
    inputs: int


def linear_layers(architecture: Architecture) -> tuple[LinearLayer, ...]:
    """The linear layers of the encoder, in the order in which they run: four per layer."""
    hidden, intermediate = architecture.hidden, architecture.intermediate
    found: list[LinearLayer] = []
    for layer in range(architecture.layers):
        found += [
            LinearLayer(f"layers.{layer}.qkv", 3 * hidden, hidden),
            LinearLayer(f"layers.{layer}.attention_output", hidden, hidden),
            LinearLayer(f"layers.{layer}.intermediate", intermediate, hidden),
            LinearLayer(f"layers.{layer}.output", hidden, intermediate),
        ]
    return tuple(found)
