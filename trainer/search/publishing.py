"""A new version of an artifact: the same tensors, another Pareto table."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from model_store import Artifact, ModelDescription, ModelStore, ParetoTable, StoredVersion
from model_store.manifest import CARD_FILE, TABLE_FILE
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
    said = {field.name: getattr(source.manifest, field.name) for field in fields(ModelDescription)}
    description = ModelDescription(**said)
    metrics = {**description.metrics, "pareto_table": {**facts, "searched_on": source.digest}}
    description = replace(description, metrics=metrics)

    def build(folder: Path) -> ModelDescription:
        for file in source.manifest.files:
            if file not in (TABLE_FILE, CARD_FILE):
                shutil.copyfile(source.path / file, folder / file)
        table.write(folder / TABLE_FILE)
        (folder / CARD_FILE).write_text(model_card(name, description), encoding="utf-8")
        return description

    return store.publish(name, build)
