"""The frozen table, and what may be added to it afterwards: dev figures, and nothing else.

``pareto_table.json`` is written once; ``frozen.json`` beside it holds its SHA-256 and how it was made.  Dev F1 is
measured for the report after that, once per point, into ``dev.json``; ``reported_table.json`` is the frozen
table with those figures.  So nothing that dev says can change what was chosen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_store import LengthConfiguration, ParetoPoint, ParetoTable, read_table
from model_store.files import sha256_of, write_durably
from reading import QuestionScores

TABLE_FILE = "pareto_table.json"
FROZEN_FILE = "frozen.json"
DEV_FILE = "dev.json"
REPORTED_FILE = "reported_table.json"


class FrozenTableError(ValueError):
    """A table that is frozen already, is not frozen yet, or is not what was frozen."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen table.

    Attributes:
        table: without dev figures.
        sha256: of its file's bytes.
        facts: how it was made.
    """

    table: ParetoTable
    sha256: str
    facts: Mapping[str, Any]


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; a crash leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".new")
    write_durably(temporary, data)
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """`write_whole` of a JSON document."""
    write_whole(path, json.dumps(value, indent=1).encode() + b"\n")


def freeze(folder: Path, table: ParetoTable, facts: Mapping[str, Any]) -> Frozen:
    """Write `table` and its digest to `folder`.

    Raises:
        FrozenTableError: there is a frozen table already.
    """
    if (folder / FROZEN_FILE).exists():
        raise FrozenTableError(f"the table in {folder} is frozen already; move {FROZEN_FILE} away to make another")
    data = table.to_json()
    write_whole(folder / TABLE_FILE, data)
    digest = hashlib.sha256(data).hexdigest()
    write_json(folder / FROZEN_FILE, {"sha256": digest, **facts})
    return Frozen(table, digest, dict(facts))


def read_frozen(folder: Path) -> Frozen:
    """The frozen table in `folder`.

    Raises:
        FrozenTableError: none is there, or its bytes are not those that were frozen.
        ModelStoreError: it is no Pareto table.
    """
    if not (folder / FROZEN_FILE).exists():
        raise FrozenTableError(f"no table is frozen in {folder}; run `python -m trainer table` first")
    facts = json.loads((folder / FROZEN_FILE).read_text(encoding="utf-8"))
    digest = facts.pop("sha256")
    if sha256_of(folder / TABLE_FILE) != digest:
        raise FrozenTableError(f"{folder / TABLE_FILE} has changed since it was frozen (SHA-256 differs)")
    return Frozen(read_table(folder / TABLE_FILE), digest, facts)


def report_dev(
    folder: Path, data: Mapping[str, Any], evaluate: Callable[[LengthConfiguration], QuestionScores]
) -> ParetoTable:
    """Measure dev figures once per point of the frozen table in `folder`, and write ``reported_table.json``.

    Interrupted and called again it goes on; what was measured is never measured again.

    Args:
        folder: of the frozen table.
        data: what identifies the dev file; the same at every call.
        evaluate: scores of the dev questions.

    Raises:
        FrozenTableError: see `read_frozen`; or dev figures of another table or other data are there.
    """
    frozen = read_frozen(folder)
    about = {"frozen_sha256": frozen.sha256, "data": dict(data)}
    path = folder / DEV_FILE
    dev: dict[str, Any] = {**about, "points": {}}
    if path.exists():
        dev = json.loads(path.read_text(encoding="utf-8"))
        if {key: dev.get(key) for key in about} != about:
            raise FrozenTableError(f"{path} holds figures of another table or of other data")
    for point in frozen.table.points:
        if point.id not in dev["points"]:
            scores = evaluate(point.configuration)
            means = (float(scores.f1.mean()), float(scores.exact_match.mean()))
            dev["points"][point.id] = [round(100.0 * mean, 2) for mean in means]
            write_json(path, dev)
    reported = with_dev(frozen.table, dev["points"])
    write_whole(folder / REPORTED_FILE, reported.to_json())
    return reported


def with_dev(table: ParetoTable, figures: Mapping[str, tuple[float, float]]) -> ParetoTable:
    """`table` with (F1, exact match) on dev per id."""
    points = tuple(
        replace(point, dev_f1=figures[point.id][0], dev_exact_match=figures[point.id][1]) for point in table.points
    )
    return replace(table, points=points)


def published_table(folder: Path) -> ParetoTable:
    """The reported table if there is one, else the frozen one.

    Raises:
        FrozenTableError: see `read_frozen`; or the reported table differs in more than its dev figures.
    """
    frozen = read_frozen(folder)
    if not (folder / REPORTED_FILE).exists():
        return frozen.table
    reported = read_table(folder / REPORTED_FILE)
    bare = replace(reported, points=tuple(_without_dev(point) for point in reported.points))
    if bare != frozen.table:
        raise FrozenTableError(f"{folder / REPORTED_FILE} differs from the frozen table in more than dev figures")
    return reported


def _without_dev(point: ParetoPoint) -> ParetoPoint:
    return replace(point, dev_f1=None, dev_exact_match=None)
