"""Adaptation: a fine-tuned network learns to answer at any length configuration.

LengthDrop and LayerDrop draw sub-models, the sandwich rule trains them together, and a teacher's logits, written
beforehand, may guide the full pass (Length-Adaptive Transformer, Kim and Cho 2021, section 3; QuaLA-MiniLM,
Guskin et al. 2022, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.batches import LabelledBatch
from trainer.features import Features
from trainer.length_drop import LengthDrop, SubModel
from trainer.loop import LoopSettings, SpanLoop
from trainer.losses import keeping_loss, marginal_span_loss
from trainer.network import PADDING_LOGIT, Batch, LengthAdaptiveMiniLM
from trainer.precision import WorkingCopy
from trainer.quantization_aware import QuantizedCopy
from trainer.quantize import InputGrid
from trainer.sandwich import DIRECTIONS, Logits, sandwich, taught_loss
from trainer.skimming import SkimmedBatch, SkimmerNetwork, skim_batch
from trainer.teacher_logits import TeacherLogits

_STREAM = 2
"""Sets the draw of the subset apart from others with the same seed."""

_SKIM_STREAM = 3
"""Likewise the draws of what is left out before the first layer."""

SKIM_EXEMPT = 16
"""Tokens of a window that an input ratio does not count, as in the search (`--exempt-tokens`)."""


@dataclass(frozen=True, slots=True)
class AdaptSettings(LoopSettings):
    """Attributes are the command line's options of the same names.

    Attributes:
        drop_probability: largest share of its tokens that a layer may drop; at 0.4 the smallest sub-model
            costs 29% of the full one (`trainer.length_drop.smallest_share`).
        layer_drop: probability that a layer is left out of a pass.
        layer_drop_full: whether that goes for the full pass too.
        random_passes: random sub-models per step, beside the full and the smallest.
        direction: of the divergence between sub-models and full pass, see `trainer.sandwich.divergence`.
        protect: tokens never dropped: ``none``, ``special`` or ``question``.
        teacher_weight: share of the teacher in the full pass's loss, 0 to 1; without a teacher it has no effect.
        temperature: of the divergence from the teacher.
        keeping_weight: of `trainer.losses.keeping_loss` beside the full pass's loss, where significance is learned.
        input_drop: with a skimmer, the largest share of a window that is left out before the first layer: that of the
            smallest sub-model, a random one draws it from 0 on.  None where nothing is skimmed.
        share: of the questions that are trained on, for ablations.
        start: digest of the weights started from, see `digest`; for the record.
        teacher: digest of the teacher's logits, or nothing; likewise.
        grids: digest of the grids of quantization-aware training, or nothing; likewise.
        skimmer: digest of the skimmer's weights, or nothing; likewise.

    Raises:
        ValueError: a value outside its range.
    """

    epochs: float = 5.0
    learning_rate: float = 5e-5
    drop_probability: float = 0.4
    layer_drop: float = 0.0
    layer_drop_full: bool = False
    random_passes: int = 2
    direction: str = "forward"
    protect: str = "none"
    teacher_weight: float = 0.5
    temperature: float = 2.0
    keeping_weight: float = 0.1
    input_drop: float | None = None
    share: float = 1.0
    start: str = ""
    teacher: str = ""
    grids: str = ""
    skimmer: str = ""

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        if not 0.0 <= self.teacher_weight <= 1.0:
            raise ValueError(f"teacher_weight must be in [0, 1], got {self.teacher_weight}")
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.input_drop is not None and not 0.0 < self.input_drop < 1.0:
            raise ValueError(f"input_drop must be in (0, 1), got {self.input_drop}")
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        self.length_drop(1)

    def length_drop(self, layers: int) -> LengthDrop:
        """The draws of sub-models that these settings ask for, of a network of so many layers."""
        return LengthDrop(
            layers=layers,
            probability=self.drop_probability,
            layer_drop=self.layer_drop,
            layer_drop_full=self.layer_drop_full,
            random_passes=self.random_passes,
            protect=self.protect,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass of a step: a sub-model, and what is left of the windows where they are skimmed."""

    sub_model: SubModel
    skimmed: SkimmedBatch | None = None


class Adapter(SpanLoop):
    """One adaptation run in one folder, stopped and resumed at will.

    Args:
        network: fine-tuned, float32, trained in place.
        features: training windows.
        folder: holds ``checkpoint/`` and ``steps.jsonl``.
        settings: of the stage.
        teacher: logits for every one of `features`, or None to learn from the labels alone.
        grids: of the inputs of every linear layer, to train quantization-aware, every pass; None to train without.
        skimmer: trained, says what sub-models leave out before the first layer; None where nothing is.
        pad_id: word piece that fills a batch.
        device: where to compute.
    """

    settings: AdaptSettings

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        network: LengthAdaptiveMiniLM,
        features: Features,
        folder: Path,
        settings: AdaptSettings,
        *,
        teacher: TeacherLogits | None = None,
        grids: Mapping[str, InputGrid] | None = None,
        skimmer: SkimmerNetwork | None = None,
        pad_id: int = 0,
        device: torch.device | None = None,
    ) -> None:
        if (skimmer is None) != (settings.input_drop is None):
            raise ValueError("a skimmer and an input drop go together")
        windows = subset(features, settings.share, settings.seed)
        copied = partial(QuantizedCopy, grids=grids) if grids else WorkingCopy
        super().__init__(
            network, features, folder, settings, windows=windows, pad_id=pad_id, device=device, copied=copied
        )
        self.teacher = teacher if settings.teacher_weight > 0.0 else None
        self.drop = settings.length_drop(network.architecture.layers)
        self.skimmer = skimmer.to(self.device).eval() if skimmer is not None else None

    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        batch = self._collate(indices)
        taught = self._taught(batch, indices)
        figures: dict[str, float] = {}
        scores: list[Tensor] = []

        def run(one: _Pass) -> Logits:
            inputs, model = batch.inputs if one.skimmed is None else one.skimmed.inputs, one.sub_model
            return self.working.network(  # type: ignore[no-any-return]  # a module's call is untyped
                inputs, model.kept, protected=model.protected, skipped=model.skipped, scores=scores
            )

        def target(one: _Pass, whole: Logits) -> Logits:
            return whole if one.skimmed is None else one.skimmed.of_whole(whole)

        def full_loss(logits: Logits) -> Tensor:
            loss = marginal_span_loss(logits[0], logits[1], batch.starts, batch.ends)
            figures["span"] = loss.item()
            if taught is not None:
                loss = taught_loss(loss, taught, logits, self.settings.teacher_weight, self.settings.temperature)
            if scores:
                keeping = keeping_loss(scores, batch)
                figures["keeping"] = keeping.item()
                loss = loss + self.settings.keeping_weight * keeping
            return loss

        losses = sandwich(
            self._passes(batch.inputs),
            run,
            full_loss,
            direction=self.settings.direction,
            pulled=self.working.pull_gradients,
            target=target,
        )
        smallest, *random = losses.sub_models
        return {"loss": losses.mean, **figures, "full": losses.full, "smallest": smallest, "random": random}

    def _passes(self, inputs: Batch) -> list[_Pass]:
        """The full pass, then the smallest and the random ones; where windows are skimmed, on what is left of them."""
        full, *others = self.drop.sub_models(inputs, self.step)
        if self.skimmer is None or self.settings.input_drop is None:
            return [_Pass(full), *map(_Pass, others)]
        with torch.inference_mode():
            scores = self.skimmer(inputs)
        rng = np.random.default_rng((self.settings.seed, self.step, _SKIM_STREAM))
        drops = [self.settings.input_drop, *rng.uniform(0.0, self.settings.input_drop, len(others) - 1)]
        passes = [_Pass(full)]
        for place, drop in enumerate(drops, start=1):
            left = skim_batch(inputs, scores, 1.0 - drop, SKIM_EXEMPT)
            passes.append(_Pass(self.drop.sub_models(left.inputs, self.step)[place], left))
        return passes

    def _taught(self, batch: LabelledBatch, indices: NDArray[np.int64]) -> Logits | None:
        """The teacher's start and end logits of the batch, float32 ``[b, n]`` each."""
        if self.teacher is None:
            return None
        real = batch.inputs.real
        padded = torch.from_numpy(self.teacher.padded(indices, real.shape[1])).to(self.device)
        logits = padded.masked_fill(~real[..., None], PADDING_LOGIT)
        return logits[..., 0], logits[..., 1]


def subset(features: Features, share: float, seed: int) -> NDArray[np.int64]:
    """Indices of the windows of a seeded share of the questions, rounded up, in their order."""
    owners = np.unique(features.questions)
    count = int(np.ceil(share * len(owners) - 1e-9))
    chosen = np.random.default_rng((seed, _STREAM)).permutation(owners)[:count]
    return np.flatnonzero(np.isin(features.questions, chosen)).astype(np.int64)
