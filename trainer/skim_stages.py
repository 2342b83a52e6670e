"""Stages of ``python -m trainer`` around the skimmer: skim, add-skimmer.

``skim`` writes the folder ``skimmer/`` of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from model_store import Artifact, ModelStore, Tensors
from model_store.skimmer import MARGIN_SHARES
from reading import SquadRecord, load_squad
from server.engine.skimmer import make_skimmer
from server.engine.skimming import RankedWindow, rank_window
from trainer.evaluation import cut_questions
from trainer.features import Features
from trainer.precision import computing_device
from trainer.pretrained import save_weights
from trainer.publishing import publish_skimmer
from trainer.skimming import (
    SkimmerNetwork,
    SkimmerTrainer,
    SkimmingSettings,
    calibrated_margins,
    first_words,
    load_skimmer,
    rarity,
    skimmer_tensors,
)
from trainer.stages import BatchSize, CheckpointMinutes, Device, Epochs, LearningRate, Run, StopAfter
from trainer.tensor_files import digest, read_file

FOLDER = "skimmer"
WORDS = "embeddings.word.weight"

_SKIM = SkimmingSettings()


def skim(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    run: Run,
    start: Annotated[
        Path | None, typer.Option(help="Weights whose word embeddings it begins with; the run's fine-tuned ones.")
    ] = None,
    name: Annotated[str, typer.Option(help="Folder of the run to write.")] = FOLDER,
    epochs: Epochs = _SKIM.epochs,
    batch_size: BatchSize = _SKIM.batch_size,
    learning_rate: LearningRate = _SKIM.learning_rate,
    seed: Annotated[int, typer.Option(help="Order of the windows, and the weights to begin with.")] = _SKIM.seed,
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    stop_after: StopAfter = 0,
) -> None:
    """Train the skimmer, which says what part of a text is worth reading; started again, it goes on."""
    weights = start or run / "weights.safetensors"
    settings = SkimmingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision="f32",
        checkpoint_minutes=checkpoint_minutes,
        start=digest(weights),
    )
    features, words = Features.load(run / "features.npz"), read_file(weights)[WORDS].float()
    network = SkimmerNetwork(first_words(words), rarity(features, len(words)), seed)
    trainer = SkimmerTrainer(network, features, run / name, settings, device=computing_device(device))
    done = trainer.run(stop_after or None)
    if done < trainer.steps:
        typer.echo(f"stopped after step {done} of {trainer.steps}; the same command goes on")
        return
    save_weights(network.cpu(), run / name / "weights.safetensors")
    typer.echo(f"{done} steps done; weights in {run / name / 'weights.safetensors'}")


def add_skimmer(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    store: Annotated[Path, typer.Option(help="Model store of the artifact.")],
    model: Annotated[str, typer.Option(help="NAME or NAME@VERSION in it.")] = "default",
    of: Annotated[str, typer.Option(help="Folder of the run that `skim` wrote.")] = FOLDER,
    target: Annotated[Path | None, typer.Option(help="Store to publish in; the same by default.")] = None,
    name: Annotated[str | None, typer.Option(help="Model name there; the same by default.")] = None,
) -> None:
    """Publish a new version of the model with the skimmer: its Pareto table stays until the next search.

    How much of a text it keeps depends on how sure it is; by how much, is calibrated on the run's held-out texts.
    """
    artifact = ModelStore(store).load(model)
    weights = run / of / "weights.safetensors"
    tensors = skimmer_tensors(load_skimmer(weights))
    windows = _ranked(artifact, tensors, list(load_squad(run / "held_out.json.gz")))
    tensors["margin"] = calibrated_margins(windows)
    progress = json.loads((run / of / "checkpoint" / "progress.json").read_text(encoding="utf-8"))
    facts = {**progress["settings"], "steps": progress["step"], "weights": digest(weights)}
    facts["margin_texts"] = len(windows)
    models = ModelStore(target or store)
    published = publish_skimmer(artifact, tensors, models, name or artifact.manifest.name, facts)
    typer.echo(f"published {published.spec} in {target or store}")


def _ranked(artifact: Artifact, tensors: Tensors, questions: Sequence[SquadRecord]) -> list[RankedWindow]:
    """Every window that holds a whole text and a token of it, ranked by the skimmer of `tensors`."""
    scorer, no_margins = make_skimmer(tensors), np.zeros(len(MARGIN_SHARES), dtype=np.float32)
    alone = (each.windows[0] for each in cut_questions(artifact, questions) if len(each.windows) == 1)
    return [rank_window(each, scorer, no_margins) for each in alone if each.context_count]


def add_skimming_stages(app: typer.Typer, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the stages of this module to `app`, each wrapped by `wrap`."""
    app.command(name="skim")(wrap(skim))
    app.command(name="add-skimmer")(wrap(add_skimmer))
