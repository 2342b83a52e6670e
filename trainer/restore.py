"""The weights of a published artifact, for training to go on from where nothing but the artifact is left.

An int8 artifact gives back the float weights that its levels stand for, each within half a level of what was trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store import Artifact, Tensors, linear_layers
from trainer.average import WEIGHTS_FILE
from trainer.tensor_files import write_file

RESTORED_FILE = "restored.json"


def float_weights(artifact: Artifact) -> dict[str, Tensor]:
    """The weights of a network by name, float32, as `trainer.pretrained.load_weights` reads them.

    Of an int8 artifact: ``weight_scale[o] * weight[o, k] / input_scale[k]`` (``model_store/FORMAT.md``, "Arithmetic").

    Raises:
        ModelStoreError: the artifact's tensors cannot be read.
    """
    tensors: Tensors = dict(artifact.load_tensors())
    if artifact.manifest.quantization.scheme == "int8":
        tensors["embeddings.word"] = tensors["embeddings.word"] * tensors.pop("embeddings.word.scale")[:, None]
        for linear in linear_layers(artifact.manifest.architecture):
            tensors.pop(f"{linear.name}.input_zero_point")
            scale, inputs = (tensors.pop(f"{linear.name}.{part}_scale") for part in ("weight", "input"))
            tensors[f"{linear.name}.weight"] = tensors[f"{linear.name}.weight"] * scale[:, None] / inputs
    for part in ("word", "position", "segment"):
        tensors[f"embeddings.{part}.weight"] = tensors.pop(f"embeddings.{part}")
    return {name: torch.from_numpy(np.array(each, dtype=np.float32)) for name, each in tensors.items()}


def restore(run: Path, artifact: Artifact, name: str) -> Path:
    """Write the weights of `artifact` into the folder `name` of `run`, with a record of where they are from.

    Raises:
        ModelStoreError: as of `float_weights`.
        OSError: the files cannot be written.
        ValueError: the folder has weights already.
    """
    path = run / name / WEIGHTS_FILE
    if path.exists():
        raise ValueError(f"{path} is there already; take another --name")
    weights = float_weights(artifact)
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = artifact.manifest
    record = {"restored_from": f"{manifest.name}@{manifest.version}", "digest": artifact.digest}
    (path.parent / RESTORED_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
    write_file(weights, path)
    return path
