"""A new version of an artifact: the same tensors, another Pareto table or another skimmer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from model_store import Artifact, ModelDescription, ModelStore, ParetoTable, StoredVersion, Tensors
from model_store.manifest import CARD_FILE, TABLE_FILE
from model_store.skimmer import SKIMMER_FILE, write_skimmer
from trainer.card import model_card


def publish_table(
    source: Artifact, table: ParetoTable, store: ModelStore, name: str, facts: Mapping[str, Any]
) -> StoredVersion:
    """Publish `source` as `name` with `table`.

    Every file but the table and the model card is copied byte for byte.

    Args:
        source: what the search ran on.
        table: for it.
        store: to publish in.
        name: of the model.
        facts: how the table was made; under ``metrics.pareto_table`` of the manifest.

    Raises:
        ModelStoreError, OSError: nothing is published.
    """
    said = _said(source)
    metrics = {**said.metrics, "pareto_table": {**facts, "searched_on": source.digest}}
    return _publish(source, replace(said, metrics=metrics), store, name, {TABLE_FILE: table.write})


def publish_skimmer(
    source: Artifact, skimmer: Tensors, store: ModelStore, name: str, facts: Mapping[str, Any]
) -> StoredVersion:
    """Publish `source` as `name` with `skimmer`, in place of any that it has.

    Every other file but the model card is copied byte for byte, the Pareto table too: a search comes after.

    Args:
        source: what the skimmer is for.
        skimmer: tensors of `model_store.skimmer.skimmer_layout`.
        store: to publish in.
        name: of the model.
        facts: how the skimmer was made; under ``training.skimmer`` of the manifest.

    Raises:
        ModelStoreError, OSError: nothing is published.
    """
    said = _said(source)
    vocabulary = said.architecture.vocabulary
    described = replace(said, training={**said.training, "skimmer": dict(facts)})
    return _publish(
        source, described, store, name, {SKIMMER_FILE: lambda path: write_skimmer(path, skimmer, vocabulary)}
    )


def _said(source: Artifact) -> ModelDescription:
    return ModelDescription(**{field.name: getattr(source.manifest, field.name) for field in fields(ModelDescription)})


def _publish(
    source: Artifact,
    description: ModelDescription,
    store: ModelStore,
    name: str,
    others: Mapping[str, Callable[[Path], None]],
) -> StoredVersion:
    """Publish `source` with `description` and the files `others`, each by what writes it to a path."""

    def build(folder: Path) -> ModelDescription:
        for file in source.manifest.files:
            if file not in (*others, CARD_FILE):
                shutil.copyfile(source.path / file, folder / file)
        for file, write in others.items():
            write(folder / file)
        (folder / CARD_FILE).write_text(model_card(name, description), encoding="utf-8")
        return description

    return store.publish(name, build)
