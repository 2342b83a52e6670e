"""Activation calibration of a run, and the file that keeps its grids beside weights that were trained on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from trainer.batches import collate
from trainer.features import Features
from trainer.length_drop import LengthDrop
from trainer.network import LengthAdaptiveMiniLM
from trainer.quantize import SMOOTHING, InputGrid, input_grids, observe
from trainer.tensor_files import digest, read_file, read_metadata, write_file

GRIDS_FILE = "grids.safetensors"
GRIDS_KEY = "grids"
"""Of the weights' metadata: the digest of the grids that they were trained on."""

_FACTS = "facts"
_BATCH = 8


@dataclass(frozen=True, slots=True)
class ActivationCalibration:
    """How the grids of activations are found.

    Attributes:
        windows: training windows, drawn by `seed`.
        drop: LengthDrop's probability for the sub-models that are seen beside the full pass; 0 for the full pass alone.
        smoothing: see `quantize.input_grids`.
        seed: of both draws.
    """

    windows: int = 256
    drop: float = 0.0
    smoothing: float = SMOOTHING
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Grids:
    """The grids of a network's activations, and where they come from.

    Attributes:
        inputs: by the linear layer's name.
        calibration: that found them.
        start: digest of the weights that it saw; empty where they are the very weights to be published.
    """

    inputs: Mapping[str, InputGrid]
    calibration: ActivationCalibration
    start: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """What identifies them, for a record."""
        return {**asdict(self.calibration), "start": self.start}


def calibrate(
    network: LengthAdaptiveMiniLM, features: Features, calibration: ActivationCalibration, start: str = ""
) -> Grids:
    """Find the grids of `network` on training windows.

    Args:
        network: float32, on the CPU.
        features: training windows.
        calibration: how.
        start: for the record.

    Raises:
        ValueError: no windows, or a value that is not finite.
    """
    rng = np.random.default_rng(calibration.seed)
    count = min(calibration.windows, len(features))
    chosen = rng.choice(len(features), count, replace=False)
    chosen = chosen[np.argsort(features.lengths[chosen], kind="stable")]
    drop, size = None, _BATCH
    if calibration.drop > 0.0:
        size = 1
        drop = LengthDrop(network.architecture.layers, calibration.drop, seed=calibration.seed)
    parts = [chosen[i : i + size] for i in range(0, count, size)]
    ranges = observe(network, (collate(features, part, 0).inputs for part in parts), drop)
    return Grids(input_grids(network, ranges, calibration.smoothing), calibration, start)


def grids_of_run(
    path: Path, network: LengthAdaptiveMiniLM, features: Features, calibration: ActivationCalibration, start: str
) -> Grids:
    """The grids that a training holds fixed: found and written when it begins, read when it goes on.

    Args:
        path: of their file.
        network: as the training begins, float32, on the CPU.
        features: training windows.
        calibration: how to find them.
        start: digest of the network's weights.

    Raises:
        OSError: the file cannot be written.
        ValueError: `path` holds grids that were found otherwise; or see `calibrate`.
    """
    if not path.exists():
        save_grids(calibrate(network, features, calibration, start), path)
    grids = load_grids(path)
    wanted = {**asdict(calibration), "start": start}
    differing = ", ".join(
        f"{k}: {grids.facts[k]!r} there, {wanted[k]!r} here" for k in wanted if grids.facts[k] != wanted[k]
    )
    if differing:
        raise ValueError(f"{path} is of a run with another activation calibration ({differing})")
    return grids


def grids_trained_on(weights: Path) -> Grids | None:
    """The grids that weights were trained on, from the file beside them; None if they were trained without.

    Raises:
        OSError: a file is missing.
        ValueError: the file beside the weights holds other grids, or one of them is damaged.
    """
    wanted = read_metadata(weights).get(GRIDS_KEY)
    if wanted is None:
        return None
    path = weights.with_name(GRIDS_FILE)
    if digest(path) != wanted:
        raise ValueError(f"{path} does not hold the grids that {weights} was trained on")
    return load_grids(path)


def save_grids(grids: Grids, path: Path) -> None:
    """Write all grids as safetensors, by way of a temporary file."""
    tensors = {}
    for name, grid in grids.inputs.items():
        tensors[f"{name}.smooth"] = torch.from_numpy(grid.smooth)
        tensors[f"{name}.step"] = torch.tensor([grid.step], dtype=torch.float64)
        tensors[f"{name}.zero_point"] = torch.tensor([grid.zero_point], dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    write_file(tensors, temporary, {_FACTS: json.dumps(grids.facts)})
    temporary.replace(path)


def load_grids(path: Path) -> Grids:
    """What `save_grids` wrote, bit for bit.

    Raises:
        OSError: no such file.
        ValueError: damaged, or no file of grids.
    """
    tensors = read_file(path)
    try:
        facts = json.loads(read_metadata(path)[_FACTS])
        start = facts.pop("start")
        names = [key.removesuffix(".smooth") for key in tensors if key.endswith(".smooth")]
        inputs = {
            name: InputGrid(
                tensors[f"{name}.smooth"].numpy(), tensors[f"{name}.step"].item(), int(tensors[f"{name}.zero_point"])
            )
            for name in names
        }
        return Grids(inputs, ActivationCalibration(**facts), start)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no grids: {error!r}") from error
