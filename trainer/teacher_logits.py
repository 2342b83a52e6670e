"""A teacher's logits of every training window, written once, so that training needs no teacher in memory.

``logits.npy`` is float16 ``[all tokens, 2]`` (start, end), ragged as `Features.offsets` says.  Beside it
``logits.json`` says of which windows and which teacher; while the file grows it is called ``logits.npy.part``, and
the JSON says how far it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from trainer.batches import collate
from trainer.features import Features
from trainer.loop import NotFiniteError
from trainer.network import Batch

SAVE_EVERY = 200
"""Batches between notes of progress."""

Runner = Callable[[Batch], tuple[Tensor, Tensor]]
"""Start and end logits ``[b, n]`` of a batch, aligned with its tokens."""


class TeacherLogits:
    """The finished file.

    Args:
        features: the windows.
        values: float16 ``[all tokens, 2]``.
    """

    def __init__(self, features: Features, values: NDArray[np.float16]) -> None:
        self._offsets = features.offsets
        self._values = values

    @classmethod
    def open(cls, path: Path, features: Features) -> TeacherLogits:
        """Map ``logits.npy`` into memory.

        Raises:
            OSError: no such file.
            ValueError: it is not float16 ``[all tokens, 2]``, was written for other windows, or is about to be
                replaced by one that is not done.
        """
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        wanted = (int(features.offsets[-1]), 2)
        if values.dtype != np.float16 or values.shape != wanted:
            raise ValueError(f"{path} holds {values.dtype} {values.shape}, not float16 {wanted} for these windows")
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if note.get("features") != features_digest(features):
            raise ValueError(f"{path} was written for other windows than these")
        if note["batches"] < len(_batches(features, note["batch_size"])):
            raise ValueError(f"{path} is about to be replaced by one that is not done; teacher-logits goes on with it")
        return cls(features, values)

    def padded(self, indices: NDArray[np.int64], width: int) -> NDArray[np.float32]:
        """Logits of the windows `indices`, float32 ``[b, width, 2]``, 0 at padding."""
        logits = np.zeros((len(indices), width, 2), dtype=np.float32)
        for row, index in enumerate(indices):
            first, last = self._offsets[index], self._offsets[index + 1]
            logits[row, : last - first] = self._values[first:last]
        return logits


@dataclass(frozen=True, slots=True)
class _Note:
    """How far the file is, and of what: digests of windows and teacher, windows per batch, batches done."""

    features: str
    teacher: str
    batch_size: int
    batches: int = 0


def write_logits(  # noqa: PLR0913 - what a file is made of
    run: Runner,
    features: Features,
    path: Path,
    *,
    teacher: str,
    batch_size: int = 64,
    pad_id: int = 0,
    stop_after: int | None = None,
) -> int:
    """Write ``logits.npy``; stopped or killed, the same call goes on.

    Args:
        run: the teacher.
        features: the windows.
        path: where the file is to stand; its folder exists.
        teacher: digest of the teacher's weights.
        batch_size: windows per batch.
        pad_id: our word piece that fills a batch.
        stop_after: stop when so many batches are done.

    Returns:
        The number of batches that are still to be done; 0 when the file stands.

    Raises:
        NotFiniteError: a logit that float16 cannot hold.
        OSError: the disk is full.
    """
    note = _Note(features_digest(features), teacher, batch_size)
    part, note_path = _part(path), path.with_suffix(".json")
    batches = _batches(features, batch_size)
    done = _done(note, note_path, part, path, len(batches))
    last = len(batches) if stop_after is None else min(len(batches), stop_after)
    if done == len(batches) and path.exists():
        return 0
    if done == 0:  # before the file: a note of another teacher must not speak for it
        _write_note(note_path, note)
    values = _map(part, int(features.offsets[-1]), fresh=done == 0)
    for place in tqdm(range(done, last), unit="batch", initial=done, total=len(batches), mininterval=5.0):
        _write_batch(run, features, batches[place], values, pad_id)
        if (place + 1) % SAVE_EVERY == 0 or place + 1 == last:
            values.flush()
            _write_note(note_path, replace(note, batches=place + 1))
    values.flush()
    if last < len(batches):
        return len(batches) - last
    _sync(part)
    part.replace(path)
    return 0


def features_digest(features: Features) -> str:
    """Of the windows' word pieces and places, 16 hex digits."""
    summed = hashlib.sha256()
    for array in (features.token_ids, features.offsets, features.segment_starts):
        summed.update(np.ascontiguousarray(array).tobytes())
    return summed.hexdigest()[:16]


def _batches(features: Features, batch_size: int) -> list[NDArray[np.int64]]:
    """Windows by falling length: what does not fit into memory shows at once."""
    order = np.argsort(-features.lengths, kind="stable").astype(np.int64)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _done(note: _Note, note_path: Path, part: Path, path: Path, batches: int) -> int:
    """Batches that an earlier call wrote for the same windows, teacher and batch size."""
    if not note_path.exists():
        return 0
    found = json.loads(note_path.read_text(encoding="utf-8"))
    done = int(found.get("batches", 0))
    same = {**found, "batches": 0} == asdict(note)
    return done if same and (part.exists() or (done == batches and path.exists())) else 0


def _map(part: Path, tokens: int, *, fresh: bool) -> np.memmap[Any, np.dtype[np.float16]]:
    if fresh:
        return np.lib.format.open_memmap(part, "w+", np.float16, (tokens, 2))
    return np.lib.format.open_memmap(part, "r+")


@torch.inference_mode()
def _write_batch(
    run: Runner, features: Features, indices: NDArray[np.int64], values: NDArray[np.float16], pad_id: int
) -> None:
    start, end = run(collate(features, indices, pad_id).inputs)
    logits = torch.stack((start, end), dim=-1).float().cpu().numpy()
    for row, index in enumerate(indices):
        first, last = features.offsets[index], features.offsets[index + 1]
        with np.errstate(over="ignore"):  # found below
            narrow = logits[row, : last - first].astype(np.float16)
        if not np.isfinite(narrow).all():
            raise NotFiniteError(f"the teacher gives logits beyond float16 for window {index}")
        values[first:last] = narrow


def _write_note(path: Path, note: _Note) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
    temporary.replace(path)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
