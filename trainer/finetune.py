"""Fine-tuning on spans: the plain first stage, every token kept."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import torch
from tqdm import tqdm

from trainer.batches import LabelledBatch, collate, epoch_order
from trainer.checkpoint import Progress, load_checkpoint, save_checkpoint
from trainer.features import Features
from trainer.losses import marginal_span_loss
from trainer.network import Batch, LengthAdaptiveMiniLM
from trainer.precision import WorkingCopy, has_fast_bfloat16


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """Attributes are the command line's options of the same names.

    Attributes:
        epochs: passes over the windows; may be fractional.
        batch_size: windows per step.
        learning_rate: its peak, after the warm-up.
        warm_up: share of the steps in which the learning rate rises.
        weight_decay: decoupled, on matrices only.
        clip: largest global gradient norm.
        seed: order of the windows and a new head's weights.
        precision: ``auto``, ``bf16`` or ``f32``.
        checkpoint_minutes: wall time between checkpoints.
    """

    epochs: float = 2.0
    batch_size: int = 32
    learning_rate: float = 1.2e-4
    warm_up: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 1
    precision: str = "auto"
    checkpoint_minutes: float = 5.0


class NotFiniteError(ArithmeticError):
    """The loss or the gradient became infinite or NaN; the last checkpoint is whole."""


def learning_rate_at(step: int, steps: int, settings: FinetuneSettings) -> float:
    """Linear warm-up, then linear decay to zero at `steps`."""
    rising = max(1, round(settings.warm_up * steps))
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - rising))


def make_optimizer(network: LengthAdaptiveMiniLM, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only (Loshchilov and Hutter 2019)."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


class Finetuner:
    """One fine-tuning run in one folder, stopped and resumed at will.

    Args:
        network: float32, trained in place.
        features: training windows.
        folder: holds ``checkpoint/`` and ``steps.jsonl``.
        device: where to compute.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        network: LengthAdaptiveMiniLM,
        features: Features,
        folder: Path,
        settings: FinetuneSettings,
        *,
        pad_id: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device).train()
        self.features = features
        self.folder = folder
        self.settings = settings
        self.pad_id = pad_id
        self.optimizer = make_optimizer(self.network, settings.weight_decay)
        # the checkpoint is what defines a run; how often one is written does not
        self._identity = {k: v for k, v in asdict(settings).items() if k != "checkpoint_minutes"}
        self._identity["windows"] = len(features)
        self.step = load_checkpoint(folder / "checkpoint", self.network, self.optimizer, self._identity)
        fast = settings.precision == "bf16" or (settings.precision == "auto" and has_fast_bfloat16(self.device))
        self.working = WorkingCopy(self.network, torch.bfloat16 if fast else torch.float32)
        self.per_epoch = math.ceil(len(features) / settings.batch_size)
        self.steps = max(1, round(settings.epochs * self.per_epoch))

    def run(self, stop_after: int | None = None) -> int:
        """Train to the end, or to step `stop_after`; a checkpoint is written at the end either way.

        ``steps.jsonl`` holds one line per step of the run, also where it was killed and goes on from its checkpoint.

        Returns:
            The number of steps done, earlier runs included.

        Raises:
            NotFiniteError: training diverged.
        """
        last = min(self.steps, stop_after if stop_after is not None else self.steps)
        self.folder.mkdir(parents=True, exist_ok=True)
        _cut_log(self.folder / "steps.jsonl", self.step)
        saved = time.monotonic()
        bar = tqdm(total=self.steps, initial=self.step, unit="step", smoothing=0.02, mininterval=5.0)
        with (self.folder / "steps.jsonl").open("a", encoding="utf-8") as log, bar:
            while self.step < last:
                self._logged_step(log)
                bar.update()
                if time.monotonic() - saved > self.settings.checkpoint_minutes * 60:
                    self.save()
                    saved = time.monotonic()
        self.save()
        return self.step

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.folder / "checkpoint", self.network, self.optimizer, Progress(self.step, self._identity))

    def _logged_step(self, log: IO[str]) -> None:
        began = time.monotonic()
        batch = self._batch(self.step)
        rate = learning_rate_at(self.step, self.steps, self.settings)
        loss, norm = self._train(batch, rate)
        self.step += 1
        line = {
            "step": self.step,
            "epoch": round(self.step / self.per_epoch, 5),
            "loss": round(loss, 5),
            "gradient_norm": round(norm, 4),
            "learning_rate": rate,
            "windows": len(batch.inputs.lengths),
            "tokens": int(batch.inputs.lengths.sum()),
            "seconds": round(time.monotonic() - began, 4),
        }
        log.write(json.dumps(line) + "\n")
        log.flush()

    def _batch(self, step: int) -> LabelledBatch:
        epoch, place = divmod(step, self.per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = epoch_order(self.features.lengths, self.settings.batch_size, self.settings.seed, epoch)
        return collate(self.features, self._order[place], self.pad_id)

    def _train(self, batch: LabelledBatch, rate: float) -> tuple[float, float]:
        inputs = Batch(*(tensor.to(self.device) for tensor in _tensors(batch.inputs)))
        start_logits, end_logits = self.working.network(inputs)
        loss = marginal_span_loss(start_logits, end_logits, batch.starts.to(self.device), batch.ends.to(self.device))
        torch.autograd.backward(loss)
        self.working.pull_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            raise NotFiniteError(f"step {self.step}: loss {loss.item()}, gradient norm {norm.item()}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.working.refresh()
        return loss.item(), norm.item()


def _tensors(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return batch.token_ids, batch.segment_starts, batch.lengths


def _cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint: those steps are about to be done again."""
    if not path.exists():
        return
    kept: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            kept[json.loads(line)["step"]] = line
        except ValueError:  # torn by the kill
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{kept[key]}\n" for key in sorted(kept) if key <= step), encoding="utf-8")
    temporary.replace(path)
