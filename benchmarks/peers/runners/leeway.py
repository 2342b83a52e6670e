"""An engine of the server, by its name, under any length configuration of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits
from model_store import LengthConfiguration, ModelStore
from server.engine import create_engine
from server.engine.interface import Engine
from server.engine.skimming import ranked_windows


class LeewayRunner:
    """Runs what the server would.  A padded window counts as real throughout: it takes the time of its length."""

    def __init__(self, engine: Engine, configurations: Mapping[str, LengthConfiguration]) -> None:
        self._engine = engine
        self._configurations = configurations
        self.facts: dict[str, Any] = asdict(engine.info)

    def warm_up(self, config: str) -> None:
        """As the server does."""
        self._engine.warm_up([self._configurations[config]])

    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:
        """Logits of each window; how much is left of a text that fits one depends on the text, as in the server.

        Of a padded one its length says it: the skimmer would leave out the padding.
        """
        configuration = self._configurations[config]
        padded = any(len(piece.token_ids) > piece.real_length for piece in pieces)
        windows = pieces if padded else ranked_windows(self._engine, pieces, [configuration])
        found = [self._engine.run([window], configuration).logits[0] for window in windows]
        return [
            (logits.start[: piece.real_length], logits.end[: piece.real_length])
            for piece, logits in zip(pieces, found, strict=True)
        ]


def create(settings: Mapping[str, Any]) -> LeewayRunner:
    """Takes ``engine``, ``store``, ``spec``, ``threads``."""
    artifact = ModelStore(Path(settings["store"])).load(settings["spec"])
    engine = create_engine(settings["engine"], artifact, threads=settings["threads"])
    return LeewayRunner(engine, {point.id: point.configuration for point in artifact.table.points})
