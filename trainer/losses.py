"""Training losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.batches import LabelledBatch


def marginal_span_loss(start_logits: Tensor, end_logits: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Cross-entropy of start and end, averaged, each summing the probability over all labelled places.

    With one label per window this is the usual loss of BERT (Devlin et al. 2019, section 4.2); with several
    (an answer that stands more than once) it is the maximum marginal likelihood of Clark and Gardner 2018,
    section 2.2.

    Args:
        start_logits: float32 ``[b, n]``.
        end_logits: float32 ``[b, n]``.
        starts: bool ``[b, n]``, at least one True in each row.
        ends: bool ``[b, n]``, likewise.

    Returns:
        Scalar, nats.
    """
    return (_marginal(start_logits, starts) + _marginal(end_logits, ends)) / 2


def keeping_loss(scores: Sequence[Tensor], batch: LabelledBatch, answer_weight: float = 10.0) -> Tensor:
    """Cross-entropy of "this token should be kept", mean over layers and real tokens.

    To be kept are the answers' tokens, which count `answer_weight` times, as they are few; and, but in the last layer,
    behind which no token looks at another, the question and the special tokens.

    Args:
        scores: learned significance of each layer, ``[b, n]`` each.
        batch: the labelled windows.
        answer_weight: of an answer's token.

    Returns:
        Scalar, nats.
    """
    real, inside = batch.inputs.real, batch.inside
    places = torch.arange(real.shape[1], device=real.device)[None]
    asked = (places < batch.inputs.segment_starts[:, None]) | (places == batch.inputs.lengths[:, None] - 1)
    weights = real.float() * torch.where(inside, answer_weight, 1.0)
    total = torch.zeros((), device=real.device)
    for layer, found in enumerate(scores):
        wanted = inside if layer == len(scores) - 1 else inside | asked
        each = functional.binary_cross_entropy_with_logits(found, wanted.float(), reduction="none")
        total = total + (each * weights).sum() / real.sum()
    return total / len(scores)


def _marginal(logits: Tensor, labels: Tensor) -> Tensor:
    labelled = logits.masked_fill(~labels, -math.inf).logsumexp(1)
    return torch.mean(logits.logsumexp(1) - labelled)
