"""Training losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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


def _marginal(logits: Tensor, labels: Tensor) -> Tensor:
    labelled = logits.masked_fill(~labels, -math.inf).logsumexp(1)
    return torch.mean(logits.logsumexp(1) - labelled)
