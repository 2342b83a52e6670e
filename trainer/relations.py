"""Relations among tokens, which a student can learn from a teacher of any width.

A relation says how alike the queries of two tokens are, or their keys, or their values.  The vectors of all attention
heads stand side by side and are split anew, into as many relation heads for the student as for the teacher (MiniLMv2,
Wang et al. 2021, section 3).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from trainer.network import PADDING_LOGIT


def check_relation_heads(heads: int, teacher: int, student: int) -> None:
    """Refuse a number of relation heads that does not divide the width of the teacher's and the student's vectors.

    Raises:
        ValueError: says both widths.
    """
    if heads < 1 or teacher % heads or student % heads:
        raise ValueError(
            f"the number of relation heads must divide the teacher's width {teacher} and the student's {student}, "
            f"and {heads} does not"
        )


def relation_loss(teacher: Tensor, student: Tensor, real: Tensor, heads: int) -> Tensor:
    """Divergence of a student's relations from a teacher's.

    ``1 / (A |x|) sum over heads a and tokens t of KL(R(T_a)_t || R(S_a)_t)``, where ``R(V) = softmax(V V^T / sqrt(d))``
    and d is the width of one relation head; mean over the windows (MiniLMv2, Wang et al. 2021, section 3).

    Args:
        teacher: its queries, keys or values, ``[b, n, width]``, all heads side by side.
        student: its own, of its own width, ``[b, n, width]``.
        real: bool ``[b, n]``; padding neither asks nor is asked.
        heads: relation heads, A; must divide both widths (`check_relation_heads`).

    Returns:
        Scalar, float32, nats.
    """
    wanted, got = (_log_relations(vectors, real, heads) for vectors in (teacher, student))
    each = functional.kl_div(got, wanted, reduction="none", log_target=True).sum(-1).mean(1)
    return (each * real).sum(1).div(real.sum(1)).mean()


def _log_relations(vectors: Tensor, real: Tensor, heads: int) -> Tensor:
    """Logarithms of ``R``, float32 ``[b, heads, n, n]``, as low as makes no difference where a column is padding."""
    size, count, width = vectors.shape
    split = vectors.float().view(size, count, heads, width // heads).transpose(1, 2)
    scores = split @ split.transpose(-1, -2) / math.sqrt(width // heads)
    return scores.masked_fill(~real[:, None, None], PADDING_LOGIT).log_softmax(-1)
