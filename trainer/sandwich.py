"""The sandwich rule with in-place distillation, for any head.

Each step trains the full model, the smallest and some random sub-models.  The full model learns from the labels (and a
teacher, where there is one); the others learn from the full model's outputs of the same step (Yu and Huang 2019,
sections 3.1 and 3.2; Kim and Cho 2021, section 3.2).  Each pass runs backward before the next runs forward, so
that one pass's activations are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Logits = tuple[Tensor, ...]
"""One tensor ``[b, choices]`` per decision: start and end for spans, one for a class."""

Pass = TypeVar("Pass")

DIRECTIONS = ("forward", "reverse")


@dataclass(frozen=True, slots=True)
class PassLosses:
    """Losses of one step in nats, before weighting.

    Attributes:
        full: of the full pass.
        sub_models: divergence of each other pass from the full one, in their order.
    """

    full: float
    sub_models: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What was minimized: every pass weighs ``1 / passes``."""
        return (self.full + sum(self.sub_models)) / (1 + len(self.sub_models))


def divergence(target: Logits, other: Logits, direction: str = "forward", temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence between two models' answers, mean over samples and decisions.

    Args:
        target: ``[b, choices]`` each; padding holds `PADDING_LOGIT` in both and so adds nothing.
        other: likewise; what is trained.
        direction: ``forward`` is KL(target || other), the usual one of distillation, which punishes `other` for
            missing what `target` holds possible; ``reverse`` is KL(other || target), that of the paper's public
            code, which punishes it for what `target` holds impossible.
        temperature: T of Hinton et al. 2015, section 2; both logits are divided by it.

    Returns:
        Scalar, nats.

    Raises:
        ValueError: another direction.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    total = torch.zeros((), device=target[0].device)
    for wanted, got in zip(target, other, strict=True):
        p, q = (wanted / temperature).log_softmax(-1), (got / temperature).log_softmax(-1)
        if direction == "reverse":
            p, q = q, p
        total = total + (p.exp() * (p - q)).sum(-1).mean()
    return total / len(target)


def taught_loss(label_loss: Tensor, teacher: Logits, logits: Logits, weight: float, temperature: float) -> Tensor:
    """``(1 - w) label loss + w T^2 KL(teacher || model)`` (Hinton et al. 2015, section 2).

    T^2 keeps the gradient's size when T changes.
    """
    return (1.0 - weight) * label_loss + weight * temperature**2 * divergence(teacher, logits, temperature=temperature)


def sandwich(  # noqa: PLR0913 - what a step is made of
    passes: Sequence[Pass],
    run: Callable[[Pass], Logits],
    full_loss: Callable[[Logits], Tensor],
    *,
    direction: str = "forward",
    pulled: Callable[[], None] | None = None,
    target: Callable[[Pass, Logits], Logits] | None = None,
) -> PassLosses:
    """Accumulate the gradients of one step.

    Args:
        passes: the full model first, then the sub-models.
        run: logits of one of them.
        full_loss: loss of the full model, from its logits.
        direction: of the `divergence` of a sub-model from the full one, whose logits are held fixed.
        pulled: called after each backward pass, to move gradients out of low precision.
        target: what a sub-model is to learn of the full one's logits, where its own have another shape; None: all.
    """
    weight = 1.0 / len(passes)
    logits = run(passes[0])
    losses = [full_loss(logits)]
    torch.autograd.backward(losses[0] * weight)
    fixed = tuple(one.detach() for one in logits)
    losses[0] = losses[0].detach()
    del logits
    if pulled:
        pulled()
    for sub_model in passes[1:]:
        wanted = fixed if target is None else target(sub_model, fixed)
        loss = divergence(wanted, run(sub_model), direction)
        torch.autograd.backward(loss * weight)
        losses.append(loss.detach())
        if pulled:
            pulled()
    full, *others = torch.stack(losses).tolist()
    return PassLosses(full, tuple(others))
