"""Distilling relations: the student's last layer learns how a teacher's queries, keys and values relate tokens.

An optional stage before fine-tuning, on the texts of the training windows, without their labels (MiniLMv2, Wang et
al. 2021, section 3).  The teacher may be wider and deeper, with other heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.features import Features
from trainer.loop import LoopSettings, SpanLoop
from trainer.network import Batch, LengthAdaptiveMiniLM
from trainer.relations import check_relation_heads, relation_loss
from trainer.teacher import TeacherNetwork

RELATIONS = ("query", "key", "value")
_PROJECTIONS = (RELATIONS, ("q", "k", "v"), ("q_lin", "k_lin", "v_lin"))
"""What encoders of transformers call them: BERT and most others; MPNet; DistilBERT."""


@dataclass(frozen=True, slots=True)
class RelateSettings(LoopSettings):
    """Attributes are the command line's options of the same names; `seed` also draws a new head's weights.

    Attributes:
        relation_heads: heads into which queries, keys and values are split anew.
        teacher_layer: layer of the teacher to learn from, counted from 1; 0 is the last.
        teacher: digest of the teacher's weights; for the record.
    """

    epochs: float = 1.0
    relation_heads: int = 48
    teacher_layer: int = 0
    teacher: str = ""


class Relater(SpanLoop):
    """One distillation run in one folder, stopped and resumed at will.

    What the student has behind its last queries, keys and values, its head among it, stays as it is.

    Args:
        network: the student, float32, trained in place.
        teacher: an encoder of the same word pieces; frozen.
        features: training windows.
        folder: holds ``checkpoint/`` and ``steps.jsonl``.
        settings: of the stage.
        pad_id: word piece that fills a batch.
        device: where to compute.

    Raises:
        ValueError: the teacher lacks word pieces of the windows, or the layer; or the relation heads do not divide
            both widths.
    """

    settings: RelateSettings

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        network: LengthAdaptiveMiniLM,
        teacher: TeacherNetwork,
        features: Features,
        folder: Path,
        settings: RelateSettings,
        *,
        pad_id: int = 0,
        device: torch.device | None = None,
    ) -> None:
        teacher.pieces.check_ids(torch.from_numpy(features.token_ids))
        self.teacher = TeacherProjections(teacher, settings.teacher_layer)
        check_relation_heads(settings.relation_heads, self.teacher.width, network.architecture.hidden)
        super().__init__(network, features, folder, settings, pad_id=pad_id, device=device)
        teacher.to(self.device).eval()

    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        batch = self._collate(indices).inputs
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            wanted = self.teacher(batch)
        projections = self.working.network.last_projections(batch)
        # each relation runs backward before the next is made: the matrices of one are in memory at a time
        leaves = [one.detach().requires_grad_() for one in projections]
        losses = []
        for theirs, ours in zip(wanted, leaves, strict=True):
            loss = relation_loss(theirs, ours, batch.lengths, self.settings.relation_heads)
            torch.autograd.backward(loss)
            losses.append(loss.item())
        torch.autograd.backward(projections, [leaf.grad for leaf in leaves])
        self.working.pull_gradients()
        return {"loss": sum(losses), **dict(zip(RELATIONS, losses, strict=True))}


class TeacherProjections:
    """Queries, keys and values of one layer of a teacher, noted as its encoder runs.

    Args:
        network: the teacher.
        layer: counted from 1; 0 is the last.

    Attributes:
        width: of a query, all heads side by side.

    Raises:
        ValueError: no such layer, or no self-attention of a kind known here.
    """

    def __init__(self, network: TeacherNetwork, layer: int = 0) -> None:
        self._network = network
        self._linears = find_projections(network.encoder, layer)
        self._seen: dict[nn.Module, Tensor] = {}
        self.width = self._linears[0].out_features
        for linear in self._linears:
            linear.register_forward_hook(self._note)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[Tensor]:
        """Of *our* tokens, ``[b, n, width]`` each."""
        framed = self._network.pieces.frame(batch)
        self._network.encode(framed)
        return [framed.ours(self._seen.pop(linear)) for linear in self._linears]

    def _note(self, linear: nn.Module, _: object, output: Tensor) -> None:
        self._seen[linear] = output


def find_projections(encoder: nn.Module, layer: int) -> tuple[nn.Linear, ...]:
    """What makes the queries, keys and values of one layer of an encoder.

    Args:
        encoder: its self-attentions stand in the order of its layers.
        layer: counted from 1; 0 is the last.

    Raises:
        ValueError: no such layer, or no self-attention of a kind known here.
    """
    found = []
    for module in encoder.modules():
        children = dict(module.named_children())
        for names in _PROJECTIONS:
            linears = tuple(one for name in names if isinstance(one := children.get(name), nn.Linear))
            if len(linears) == len(names):
                found.append(linears)
    if not found or not 0 <= layer <= len(found):
        raise ValueError(
            f"the teacher has {len(found)} layers with queries, keys and values of a kind known here; "
            f"asked for was layer {layer} (0: the last)"
        )
    return found[layer - 1]
