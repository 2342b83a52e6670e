"""The loop that every training stage runs: seeded batches, AdamW, clipping, one log line a step, checkpoints.

A stage says where its gradients come from; everything else is here.  What a step does is a function of the
checkpoint, the settings and the step's number, so a stopped run goes on as if it had not stopped: bit for bit on
one CPU type, thread count and build of torch (a GPU sums in no fixed order).
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from trainer.batches import LabelledBatch, collate, epoch_order
from trainer.checkpoint import Progress, load_checkpoint, save_checkpoint
from trainer.features import Features
from trainer.network import Batch, LengthAdaptiveMiniLM
from trainer.precision import WorkingCopy, computing_dtype


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What every training stage is set by.

    Attributes:
        epochs: passes over the windows; may be fractional.
        batch_size: windows per step.
        learning_rate: its peak, after the warm-up.
        warm_up: share of the steps in which the learning rate rises.
        weight_decay: decoupled, on matrices only.
        clip: largest global gradient norm.
        seed: order of the windows, and whatever else a stage draws.
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


SCORER = ".significance."
SCORER_RATE = 30.0
"""Times the learning rate, for what ranks tokens: few weights per layer, whose scores begin at zero."""


class NotFiniteError(ArithmeticError):
    """A loss, a gradient or a teacher's logit became infinite or NaN; what was saved before is whole."""


def learning_rate_at(step: int, steps: int, settings: LoopSettings) -> float:
    """Linear warm-up, then linear decay to zero at `steps`."""
    rising = max(1, round(settings.warm_up * steps))
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - rising))


def make_optimizer(network: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only (Loshchilov and Hutter 2019); learned significance has a rate of its own."""
    named = list(network.named_parameters())
    scorers = [p for name, p in named if SCORER in name]
    matrices = [p for name, p in named if SCORER not in name and p.ndim > 1]
    vectors = [p for name, p in named if SCORER not in name and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, "rate": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate": 1.0},
    ]
    if scorers:
        groups.append({"params": scorers, "weight_decay": 0.0, "rate": SCORER_RATE})
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


class TrainingLoop(ABC):
    """One training run in one folder, stopped and resumed at will.

    Args:
        network: float32, trained in place.
        features: windows.
        folder: holds ``checkpoint/`` and ``steps.jsonl``.
        settings: of the stage.
        windows: int64, indices in `features` of the windows to train on; None takes all.
        device: where to compute.

    Raises:
        ValueError: the folder's checkpoint is of a run with other settings, or damaged.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        network: nn.Module,
        features: Features,
        folder: Path,
        settings: LoopSettings,
        *,
        windows: NDArray[np.int64] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device).train()
        self.features = features
        self.folder = folder
        self.settings = settings
        self.windows = np.arange(len(features), dtype=np.int64) if windows is None else windows
        self.optimizer = make_optimizer(self.network, settings.weight_decay)
        # the checkpoint is what defines a run; how often one is written does not
        # (what is not given leaves no trace, so that a new option does not disown older checkpoints)
        self._identity = {
            k: v for k, v in asdict(settings).items() if k != "checkpoint_minutes" and v not in ("", None)
        }
        self._identity["windows"] = len(self.windows)
        self.step = load_checkpoint(folder / "checkpoint", self.network, self.optimizer, self._identity)
        self.dtype = computing_dtype(settings.precision, self.device)
        self.per_epoch = math.ceil(len(self.windows) / settings.batch_size)
        self.steps = max(1, round(settings.epochs * self.per_epoch))

    @abstractmethod
    def _gradients(self, indices: NDArray[np.int64]) -> Mapping[str, object]:
        """Put the gradients of the windows `indices` on the network's parameters.

        Returns:
            Figures for the log, ``loss`` (a float, nats) among them.
        """

    @abstractmethod
    def _updated(self) -> None:
        """Called after the weights changed."""

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
        indices = self._indices(self.step)
        rate = learning_rate_at(self.step, self.steps, self.settings)
        figures, norm = self._train(indices, rate)
        self.step += 1
        line = {
            "step": self.step,
            "epoch": round(self.step / self.per_epoch, 5),
            **figures,
            "gradient_norm": round(norm, 4),
            "learning_rate": rate,
            "windows": len(indices),
            "tokens": int(self.features.lengths[indices].sum()),
            "seconds": round(time.monotonic() - began, 4),
        }
        log.write(json.dumps(line) + "\n")
        log.flush()

    def _indices(self, step: int) -> NDArray[np.int64]:
        epoch, place = divmod(step, self.per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            lengths = self.features.lengths[self.windows]
            self._order = epoch_order(lengths, self.settings.batch_size, self.settings.seed, epoch)
        return self.windows[self._order[place]]

    def _train(self, indices: NDArray[np.int64], rate: float) -> tuple[Mapping[str, object], float]:
        figures = self._gradients(indices)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip).item()
        loss = figures["loss"]
        if not (isinstance(loss, float) and math.isfinite(loss) and math.isfinite(norm)):
            raise NotFiniteError(f"step {self.step}: loss {loss}, gradient norm {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._updated()
        return {key: _rounded(value) for key, value in figures.items()}, norm


class SpanLoop(TrainingLoop):
    """A loop around the length-adaptive network, computing on a working copy of the precision asked for.

    Args:
        network: float32, trained in place.
        features: windows.
        folder: as above.
        settings: as above.
        windows: as above.
        pad_id: word piece that fills a batch.
        device: as above.
        copied: makes the working copy of the network, of the precision.
    """

    def __init__(  # noqa: PLR0913 - as above
        self,
        network: LengthAdaptiveMiniLM,
        features: Features,
        folder: Path,
        settings: LoopSettings,
        *,
        windows: NDArray[np.int64] | None = None,
        pad_id: int = 0,
        device: torch.device | None = None,
        copied: Callable[[LengthAdaptiveMiniLM, torch.dtype], WorkingCopy] = WorkingCopy,
    ) -> None:
        super().__init__(network, features, folder, settings, windows=windows, device=device)
        self.pad_id = pad_id
        self.working = copied(network, self.dtype)

    def _collate(self, indices: NDArray[np.int64]) -> LabelledBatch:
        """The windows `indices` and their labels, on the device."""
        return to_device(collate(self.features, indices, self.pad_id), self.device)

    def _updated(self) -> None:
        self.working.refresh()


def to_device(batch: LabelledBatch, device: torch.device) -> LabelledBatch:
    """The batch with all of its tensors on `device`."""
    inputs = batch.inputs
    moved = Batch(inputs.token_ids.to(device), inputs.segment_starts.to(device), inputs.lengths.to(device))
    return LabelledBatch(moved, batch.starts.to(device), batch.ends.to(device))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 5)
    return [_rounded(item) for item in value] if isinstance(value, list) else value


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
