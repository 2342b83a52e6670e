"""What every engine refuses, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration
from server.engine.interface import WindowTokens


def check_call(architecture: Architecture, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> None:
    """The checks that `interface.Engine.run` promises.

    Raises:
        ValueError: no window, a configuration of another depth or one that skims (with a skimmer there is an engine
            around this one, `server.engine.skimming`, which leaves the rest to it), a window that is empty or longer
            than the model's positions, or a token id outside the vocabulary.
    """
    if not windows:
        raise ValueError("no window")
    if len(configuration.ratios) != architecture.layers:
        raise ValueError(
            f"length configuration {configuration.id!r} has {len(configuration.ratios)} layers, "
            f"the model {architecture.layers}"
        )
    if configuration.input_ratio < 1.0:
        raise ValueError(f"length configuration {configuration.id!r} skims the text; the model has no skimmer")
    for window in windows:
        ids = window.token_ids
        if not 0 < len(ids) <= architecture.positions:
            raise ValueError(f"a window of {len(ids)} tokens; the model has {architecture.positions} positions")
        if int(ids.min()) < 0 or int(ids.max()) >= architecture.vocabulary:
            raise ValueError(f"a token id outside the vocabulary of {architecture.vocabulary}")
