"""Fine-tuning a teacher: any Hugging Face encoder that has our word pieces.

The teacher reads the student's own windows, framed its own way (`trainer.teacher_pieces`), so its logits fit ours
token by token.  ``transformers`` is imported here alone, when a teacher is loaded.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.batches import collate
from trainer.features import Features
from trainer.loop import LoopSettings, TrainingLoop, to_device
from trainer.losses import marginal_span_loss
from trainer.network import PADDING_LOGIT, Batch
from trainer.teacher_pieces import PieceMap, TeacherBatch


@dataclass(frozen=True, slots=True)
class TeachSettings(LoopSettings):
    """Attributes are the command line's options of the same names; `seed` also draws the head and the dropout."""

    epochs: float = 2.0
    learning_rate: float = 3e-5


class TeacherNetwork(nn.Module):
    """An encoder of another family with a span head, seen through our windows.

    Args:
        encoder: called with ``input_ids``, ``attention_mask`` and, where `types`, ``token_type_ids``; gives an
            object with ``last_hidden_state``, ``[b, m, hidden]``.
        hidden: width of the encoder.
        pieces: from our word pieces to the encoder's.
        types: whether the encoder knows token types.
        seed: of the head.
    """

    def __init__(self, encoder: nn.Module, hidden: int, pieces: PieceMap, *, types: bool, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(hidden, 2)
        self.pieces = pieces
        self.types = types
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            self.head.weight.copy_(torch.randn(2, hidden, generator=generator) * 0.02)
            self.head.bias.zero_()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Start and end logits of *our* tokens, float32 ``[b, n]`` each; `PADDING_LOGIT` at padding."""
        framed = self.pieces.frame(batch)
        hidden = framed.ours(self.encode(framed))
        logits = self.head(hidden).float().masked_fill(~batch.real[..., None], PADDING_LOGIT)
        return logits[..., 0], logits[..., 1]

    def encode(self, framed: TeacherBatch) -> Tensor:
        """The encoder's hidden states at its own places, ``[b, m, hidden]``."""
        inputs = {"input_ids": framed.input_ids, "attention_mask": framed.attention_mask}
        if self.types:
            inputs["token_type_ids"] = framed.token_type_ids
        hidden: Tensor = self.encoder(**inputs).last_hidden_state
        return hidden


class Teacher(TrainingLoop):
    """One fine-tuning run of a teacher in one folder, stopped and resumed at will.

    Args:
        network: float32, trained in place.
        features: training windows, in our word pieces.
        folder: holds ``checkpoint/`` and ``steps.jsonl``.
        settings: of the stage.
        pad_id: our word piece that fills a batch.
        device: where to compute.

    Raises:
        ValueError: the teacher lacks word pieces of the windows.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        network: TeacherNetwork,
        features: Features,
        folder: Path,
        settings: TeachSettings,
        *,
        pad_id: int = 0,
        device: torch.device | None = None,
    ) -> None:
        network.pieces.check_ids(torch.from_numpy(features.token_ids))
        super().__init__(network, features, folder, settings, device=device)
        self.pad_id = pad_id

    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        # an encoder's dropout draws from torch's own generator: seeded by step, so that a resumed run draws the same
        torch.manual_seed(int(np.random.SeedSequence((self.settings.seed, self.step)).generate_state(1)[0]))
        batch = to_device(collate(self.features, indices, self.pad_id), self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            start_logits, end_logits = self.network(batch.inputs)
        loss = marginal_span_loss(start_logits, end_logits, batch.starts, batch.ends)
        torch.autograd.backward(loss)
        return {"loss": loss.item()}

    def _updated(self) -> None:
        """The weights themselves compute: nothing to refresh."""


@dataclass(frozen=True, slots=True)
class TeacherRunner:
    """Gives a fine-tuned teacher's logits, batch by batch.

    Attributes:
        network: on `device`, in evaluation mode (no dropout).
        device: where to compute.
        dtype: bfloat16 computes under autocast.
    """

    network: TeacherNetwork
    device: torch.device
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Float32 ``[b, n]`` each."""
        moved = Batch(*(one.to(self.device) for one in (batch.token_ids, batch.segment_starts, batch.lengths)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            logits: tuple[Tensor, Tensor] = self.network(moved)
        return logits


def load_teacher(folder: Path, our_tokenizer: Path, seed: int) -> TeacherNetwork:
    """An encoder from a Hugging Face checkpoint, with a new head.

    Args:
        folder: holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        our_tokenizer: the student's ``tokenizer.json``.
        seed: of the head.

    Raises:
        OSError: a file is missing.
        ValueError: no encoder that transformers knows, or one that frames pairs in a way that does not fit; or
            transformers itself is missing.
    """
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise ValueError(f"a teacher needs transformers, which the extra 'train' installs: {error}") from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pieces = PieceMap.from_files(our_tokenizer, folder / "tokenizer.json", int(config.get("pad_token_id") or 0))
    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # it sees no gradient here
    types = "token_type_ids" in inspect.signature(encoder.forward).parameters
    return TeacherNetwork(encoder, int(encoder.config.hidden_size), pieces, types=types, seed=seed)
