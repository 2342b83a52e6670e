"""Logits out of token ids, for the tests of everything around a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Logits
from server.engine.interface import EngineUnavailableError


class FakeRunner:
    """The start logits are the token ids, the end logits their negatives."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"warmed_up": []}

    def warm_up(self, config: str) -> None:
        """Remember it."""
        self.facts["warmed_up"].append(config)

    def run(self, pieces: Sequence[Piece], config: str) -> list[Logits]:
        """Ids as logits.

        Raises:
            ValueError: the configuration "broken".
        """
        if config == "broken":
            raise ValueError("told to fail")
        print("a library that writes to stdout")  # noqa: T201 - the protocol must survive it
        ids = [piece.token_ids[: piece.real_length].astype(np.float32) for piece in pieces]
        return [(each, -each) for each in ids]


def create(settings: Mapping[str, Any]) -> FakeRunner:
    """A fake, unless ``unavailable`` gives a reason against it.

    Raises:
        EngineUnavailableError: with that reason.
    """
    if "unavailable" in settings:
        raise EngineUnavailableError(settings["unavailable"])
    return FakeRunner()
