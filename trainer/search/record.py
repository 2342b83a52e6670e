"""``evaluations.jsonl``: every evaluation of a search, on the disk before the next one begins.

The first line is ``{"settings": {...}}``; each other line ``{"genes", "ratios", "cost", "score"}``.  A search goes
on only under the settings that it was begun with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from model_store.length_config import COUNT_STEP
from trainer.search.front import Evaluation
from trainer.search.genes import GeneSpace

EVALUATIONS_FILE = "evaluations.jsonl"


class RecordError(ValueError):
    """A file of evaluations that is damaged, or of a search with other settings."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a file of evaluations says.

    Attributes:
        settings: what the search was begun with.
        evaluations: in the order in which they were made.
    """

    settings: dict[str, Any]
    evaluations: tuple[Evaluation, ...]

    @property
    def space(self) -> GeneSpace:
        """The space that was searched."""
        return space_of(self.settings)


def space_of(settings: Mapping[str, Any]) -> GeneSpace:
    """The space that `settings` name; searches before there were exempt tokens or skimmers say nothing of them."""
    exempt = settings.get("exempt_tokens", 0) // COUNT_STEP
    return GeneSpace(settings["levels"], tuple(settings["smallest"]), exempt, skims="input_drop" in settings)


def read_record(path: Path) -> Record:
    """Read a file of evaluations; a last line that was cut off by a crash is left out.

    Raises:
        OSError: there is no such file.
        RecordError: another form.
    """
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line's end was cut off
    try:
        rows = [json.loads(line) for line in lines]
        evaluations = tuple(Evaluation(tuple(row["genes"]), row["cost"], row["score"]) for row in rows[1:])
        record = Record(dict(rows[0]["settings"]), evaluations)
        for evaluation in evaluations:
            record.space.check(evaluation.genes)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RecordError(f"{path} is no file of evaluations: {error!s:.200}") from error
    return record


class RecordWriter:
    """Appends evaluations; a context manager.

    Args:
        path: made with its folder if it is not there; continued if it is.
        settings: of the search; JSON values only.

    Raises:
        RecordError: the file is of a search with other settings; says which differ.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.evaluations: tuple[Evaluation, ...] = ()
        self._space = space_of(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.exists() and b"\n" in path.read_bytes()
        if begun:
            record = read_record(path)
            _check_same(path, record.settings, json.loads(json.dumps(settings)))
            self.evaluations = record.evaluations
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(self._file.read().rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)
        if not begun:
            self._line({"settings": settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, evaluation: Evaluation) -> None:
        """Write one evaluation and wait until it is on the disk."""
        configuration = self._space.configuration(evaluation.genes)
        self._line(
            {
                "genes": list(evaluation.genes),
                "ratios": [round(ratio, 6) for ratio in configuration.ratios],
                **({"input_ratio": round(configuration.input_ratio, 6)} if self._space.skims else {}),
                "cost": evaluation.cost,
                "score": evaluation.score,
            }
        )

    def _line(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _check_same(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if differing:
        pairs = ", ".join(f"{key}: {there.get(key)!r} there, {here.get(key)!r} here" for key in differing)
        raise RecordError(f"{path} is of a search with other settings ({pairs}); go on with those, or move it away")
