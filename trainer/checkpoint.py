"""Checkpoints from which a stopped run goes on as if it had not stopped.

A checkpoint is a folder with ``weights.safetensors`` (float32 masters), ``optimizer.safetensors`` (moments)
and ``progress.json``.  It is written beside and renamed, so a killed process leaves the one before whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from trainer.tensor_files import read_file, write_file


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        settings: what the run was started with; a resumed run must have the same.
    """

    step: int
    settings: dict[str, object]


def save_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replace the checkpoint in `folder`; raises OSError (disk full) with the one before untouched."""
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_file(network.state_dict(), temporary / "weights.safetensors")
    write_file(_optimizer_tensors(network, optimizer), temporary / "optimizer.safetensors")
    (temporary / "progress.json").write_text(json.dumps(asdict(progress), indent=1), encoding="utf-8")
    for path in temporary.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    old = folder.with_name(folder.name + ".old")
    if folder.exists():  # else a kill between these renames left `old` as the only checkpoint
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, object]
) -> int:
    """Load weights and moments in place; the number of steps done, 0 where there is no checkpoint.

    Raises:
        ValueError: the checkpoint is of a run with other settings; says which differ.
    """
    if not folder.exists():
        folder = folder.with_name(folder.name + ".old")  # killed between the two renames
    if not folder.exists():
        return 0
    progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
    there = progress.settings
    differing = sorted(k for k in settings.keys() | there.keys() if there.get(k, "") != settings.get(k, ""))
    if differing:
        pairs = ", ".join(f"{k}: {there.get(k, '')!r} there, {settings.get(k, '')!r} here" for k in differing)
        raise ValueError(f"{folder} is a checkpoint of a run with other settings ({pairs})")
    network.load_state_dict(read_file(folder / "weights.safetensors"))
    moments = read_file(folder / "optimizer.safetensors")
    for name, parameter in network.named_parameters():
        if f"{name}.exp_avg" in moments:
            optimizer.state[parameter] = {
                key: moments[f"{name}.{key}"].to(parameter.device)  # fused AdamW has its step there too
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return progress.step


def _optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}.{key}"] = value
    return tensors
