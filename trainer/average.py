"""The mean of several trainings' weights: often better than each of them, at no cost when it runs.

Model soups (Wortsman et al. 2022, section 3) and, for points along one training, stochastic weight averaging
(Izmailov et al. 2018).  The trainings must have one ancestor: weights of unrelated ones have no mean worth having.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.loop import SCORER
from trainer.tensor_files import read_file, write_file

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "average.json"


def mean_weights(parts: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean, tensor by tensor, in float32; of a learned significance, over the parts that have one.

    Args:
        parts: tensors by name, at least one.
        shares: one for each, positive; their sum is brought to 1.

    Raises:
        ValueError: no part, another number of shares, a share that is not positive, or parts that are not alike.
    """
    if not parts or len(parts) != len(shares):
        raise ValueError(
            f"{len(parts)} sets of weights and {len(shares)} shares: give one share for each, at least one"
        )
    if not all(0.0 < share < float("inf") for share in shares):
        raise ValueError(f"shares must be positive, got {list(shares)}")
    shapes = [{name: tensor.shape for name, tensor in part.items() if SCORER not in name} for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the weights are not of the same network: names or shapes differ")
    mean = {}
    for name in sorted({name for part in parts for name in part}):
        having = [(part[name].float(), share) for part, share in zip(parts, shares, strict=True) if name in part]
        total = sum(share for _, share in having)
        mean[name] = torch.stack([tensor * (share / total) for tensor, share in having]).sum(0)
    return mean


def average(run: Path, names: Sequence[str], shares: Sequence[float], name: str) -> Path:
    """Write the mean of the weights in the folders `names` of `run` into its folder `name`, with a record of it.

    Raises:
        OSError: a file that is not there, or cannot be written.
        ValueError: see `mean_weights`; or `name` is one of `names`.
    """
    if name in names:
        raise ValueError(f"the mean cannot be written over {name!r}, which it is made of")
    mean = mean_weights([read_file(run / each / WEIGHTS_FILE) for each in names], shares)
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    write_file(mean, folder / WEIGHTS_FILE)
    record = {"average_of": dict(zip(names, shares, strict=True))}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
    return folder / WEIGHTS_FILE
