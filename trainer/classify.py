"""A sequence-level head on the length-adaptive encoder: one class per window.

The papers' other half (Kim and Cho 2021, section 4.1): [CLS] of the restored hidden states, one linear layer.  The
same sub-models, sandwich rule and divergence train it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.length_drop import SubModel
from trainer.network import Batch, LengthAdaptiveMiniLM
from trainer.sandwich import Logits, PassLosses, sandwich


class SequenceClassifier(nn.Module):
    """The encoder with a linear layer over [CLS].

    Args:
        encoder: its own span head takes no part and is not trained.
        classes: number of classes, at least 2.
        seed: of the head.

    Raises:
        ValueError: fewer than 2 classes.
    """

    def __init__(self, encoder: LengthAdaptiveMiniLM, classes: int, seed: int = 0) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, got {classes}")
        self.encoder = encoder
        self.encoder.head.requires_grad_(requires_grad=False)
        self.head = nn.Linear(encoder.architecture.hidden, classes)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator) * 0.02)
            self.head.bias.zero_()

    def forward(self, batch: Batch, sub_model: SubModel | None = None) -> Tensor:
        """Logits, float32 ``[b, classes]``; None runs the full model."""
        if sub_model is None:
            encoded = self.encoder.encode(batch)
        else:
            encoded = self.encoder.encode(
                batch, sub_model.kept, protected=sub_model.protected, skipped=sub_model.skipped
            )
        logits: Tensor = self.head(encoded[:, 0].to(self.head.weight.dtype)).float()
        return logits


def classification_sandwich(
    classifier: SequenceClassifier,
    batch: Batch,
    classes: Tensor,
    passes: list[SubModel],
    *,
    direction: str = "forward",
) -> PassLosses:
    """Accumulate one step's gradients: cross-entropy for the full pass, in-place distillation for the others.

    Args:
        classifier: float32.
        batch: padded windows.
        classes: int64 ``[b]``, the right ones.
        passes: the full model first, from `LengthDrop.sub_models`.
        direction: of the divergence, see `trainer.sandwich.divergence`.
    """

    def run(sub_model: SubModel) -> Logits:
        return (classifier(batch, sub_model),)

    def full_loss(logits: Logits) -> Tensor:
        return functional.cross_entropy(logits[0], classes)

    return sandwich(passes, run, full_loss, direction=direction)
