"""Fine-tuning on spans: the plain first stage, every token kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.loop import LoopSettings, NotFiniteError, SpanLoop, learning_rate_at, make_optimizer
from trainer.losses import marginal_span_loss

__all__ = ["FinetuneSettings", "Finetuner", "NotFiniteError", "learning_rate_at", "make_optimizer"]


@dataclass(frozen=True, slots=True)
class FinetuneSettings(LoopSettings):
    """Attributes are the command line's options of the same names; `seed` also draws a new head's weights.

    Attributes:
        start: digest of the weights started from in place of the base's; for the record.
    """

    start: str = ""


class Finetuner(SpanLoop):
    """One fine-tuning run in one folder, stopped and resumed at will."""

    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        batch = self._collate(indices)
        start_logits, end_logits = self.working.network(batch.inputs)
        loss = marginal_span_loss(start_logits, end_logits, batch.starts, batch.ends)
        torch.autograd.backward(loss)
        self.working.pull_gradients()
        return {"loss": loss.item()}
