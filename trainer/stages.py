"""Stages of ``python -m trainer`` around fine-tuning: relate, adapt, teach, teacher-logits, average, restore.

``relate`` and ``adapt`` write a folder of the run (``related/``, ``adapted/``), ``teach`` and ``teacher-logits`` write
``teacher/``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from model_store import ModelStore
from reading import load_squad
from trainer.adapt import Adapter, AdaptSettings
from trainer.average import average as average_weights
from trainer.features import Features
from trainer.grids import GRIDS_FILE, GRIDS_KEY, ActivationCalibration, grids_of_run
from trainer.loop import TrainingLoop
from trainer.precision import computing_device, computing_dtype
from trainer.pretrained import load_pretrained, load_weights, resolve_checkpoint, run_architecture, save_weights
from trainer.relate import Relater, RelateSettings
from trainer.restore import restore as restore_weights
from trainer.skimming import load_skimmer
from trainer.teacher import Teacher, TeacherNetwork, TeacherRunner, TeachSettings, load_teacher
from trainer.teacher_logits import TeacherLogits, write_logits
from trainer.tensor_files import digest, read_file

Run = Annotated[Path, typer.Argument(help="Run folder.")]
Base = Annotated[str, typer.Option(help="BERT-style checkpoint: local folder or hub name.")]
TeacherName = Annotated[str, typer.Option(help="Encoder of the same word pieces: local folder or hub name.")]
Epochs = Annotated[float, typer.Option(help="Passes over the windows; may be fractional.")]
BatchSize = Annotated[int, typer.Option(help="Windows per step.")]
LearningRate = Annotated[float, typer.Option(help="Its peak, after the warm-up.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or f32; auto takes bf16 where hardware has it.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU where there is one.")]
CheckpointMinutes = Annotated[float, typer.Option(help="Time between checkpoints.")]
StopAfter = Annotated[int, typer.Option(help="Stop at this step; the same command goes on. 0: never.")]
Smoothing = Annotated[float, typer.Option(help="SmoothQuant's alpha; 0 for none.")]
CalibrationWindows = Annotated[int, typer.Option(help="Training windows for activation calibration.")]
CalibrationDrop = Annotated[
    float, typer.Option(help="LengthDrop's probability for sub-models seen in calibration; 0: the full pass alone.")
]

BASE = "sentence-transformers/all-MiniLM-L6-v2"
TEACHER = "sentence-transformers/all-mpnet-base-v2"
TEACHER_FOLDER = "teacher"
LOGITS_FILE = "logits.npy"
CHECKED_QUESTIONS = 50

CALIBRATION = ActivationCalibration()
_ADAPT = AdaptSettings()
_RELATE = RelateSettings()
_TEACH = TeachSettings()


def relate(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    run: Run,
    base: Base = BASE,
    teacher: TeacherName = TEACHER,
    name: Annotated[str, typer.Option(help="Folder of the run to write.")] = "related",
    teacher_layer: Annotated[
        int, typer.Option(help="Layer of the teacher to learn from, counted from 1; 0: the last.")
    ] = _RELATE.teacher_layer,
    relation_heads: Annotated[
        int, typer.Option(help="Heads of the relations; must divide the widths of student and teacher.")
    ] = _RELATE.relation_heads,
    epochs: Epochs = _RELATE.epochs,
    batch_size: BatchSize = _RELATE.batch_size,
    learning_rate: LearningRate = _RELATE.learning_rate,
    seed: Annotated[int, typer.Option(help="Order of the windows, and a new head's weights.")] = _RELATE.seed,
    precision: Precision = "auto",
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    stop_after: StopAfter = 0,
) -> None:
    """Distil a teacher's relations into the base; started again, it goes on from its checkpoint."""
    settings = RelateSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision=precision,
        checkpoint_minutes=checkpoint_minutes,
        relation_heads=relation_heads,
        teacher_layer=teacher_layer,
        teacher=digest(resolve_checkpoint(teacher) / "model.safetensors"),
    )
    student, encoder = load_pretrained(base, seed), _teacher(run, base, teacher, seed=0)
    features = Features.load(run / "features.npz")
    relater = Relater(student, encoder, features, run / name, settings, device=computing_device(device))
    _finish(relater, run / name, stop_after)


def adapt(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    base: Base = BASE,
    name: Annotated[str, typer.Option(help="Folder of the run to write.")] = "adapted",
    start: Annotated[Path | None, typer.Option(help="Weights to start from; the run's fine-tuned ones.")] = None,
    epochs: Epochs = _ADAPT.epochs,
    batch_size: BatchSize = _ADAPT.batch_size,
    learning_rate: LearningRate = _ADAPT.learning_rate,
    drop_probability: Annotated[
        float, typer.Option(help="Largest share of its tokens that a layer drops.")
    ] = _ADAPT.drop_probability,
    layer_drop: Annotated[
        float, typer.Option(help="Probability that a layer is left out of a pass.")
    ] = _ADAPT.layer_drop,
    layer_drop_full: Annotated[
        bool, typer.Option(help="Leave layers out of the full pass too.")
    ] = _ADAPT.layer_drop_full,
    random_passes: Annotated[int, typer.Option(help="Random sub-models per step.")] = _ADAPT.random_passes,
    direction: Annotated[
        str, typer.Option(help="forward: KL(full || sub), reverse: KL(sub || full).")
    ] = _ADAPT.direction,
    protect: Annotated[
        str, typer.Option(help="Never dropped: none, special, or question (with special).")
    ] = _ADAPT.protect,
    teacher: Annotated[Path | None, typer.Option(help="logits.npy of teacher-logits; none by default.")] = None,
    teacher_weight: Annotated[
        float, typer.Option(help="The teacher's share of the full pass's loss.")
    ] = _ADAPT.teacher_weight,
    temperature: Annotated[float, typer.Option(help="Of the divergence from the teacher.")] = _ADAPT.temperature,
    skimmer: Annotated[
        Path | None, typer.Option(help="weights.safetensors of skim: sub-models leave out text before the first layer.")
    ] = None,
    input_drop: Annotated[
        float, typer.Option(help="With a skimmer, the largest share of a window that is left out so.")
    ] = 0.7,
    share: Annotated[float, typer.Option(help="Of the questions to train on, for ablations.")] = _ADAPT.share,
    smoothing: Smoothing = CALIBRATION.smoothing,
    calibration_windows: CalibrationWindows = CALIBRATION.windows,
    calibration_drop: CalibrationDrop = CALIBRATION.drop,
    seed: Annotated[int, typer.Option(help="Order of the windows, sub-models, subset.")] = _ADAPT.seed,
    precision: Precision = "auto",
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    stop_after: StopAfter = 0,
    *,
    quantization_aware: Annotated[
        bool, typer.Option("--quantization-aware", help="Train on int8 levels; their ranges are found at the start.")
    ] = False,
) -> None:
    """Train for any length configuration; started again, it goes on from its checkpoint."""
    weights = start or run / "weights.safetensors"
    settings = AdaptSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        drop_probability=drop_probability,
        layer_drop=layer_drop,
        layer_drop_full=layer_drop_full,
        random_passes=random_passes,
        direction=direction,
        protect=protect,
        teacher_weight=teacher_weight,
        temperature=temperature,
        input_drop=input_drop if skimmer else None,
        share=share,
        seed=seed,
        precision=precision,
        checkpoint_minutes=checkpoint_minutes,
        start=digest(weights),
        teacher=digest(teacher) if teacher else "",
        skimmer=digest(skimmer) if skimmer else "",
    )
    network = load_weights(weights, run_architecture(run, resolve_checkpoint(base)))
    features = Features.load(run / "features.npz")
    logits = TeacherLogits.open(teacher, features) if teacher else None
    where, inputs, metadata = computing_device(device), None, None
    if quantization_aware:
        path = run / name / GRIDS_FILE
        calibration = ActivationCalibration(calibration_windows, calibration_drop, smoothing)
        inputs = grids_of_run(path, network, features, calibration, settings.start).inputs
        settings = replace(settings, grids=digest(path))
        metadata = {GRIDS_KEY: settings.grids}
    reader = load_skimmer(skimmer) if skimmer else None
    adapter = Adapter(
        network, features, run / name, settings, teacher=logits, grids=inputs, skimmer=reader, device=where
    )
    _finish(adapter, run / name, stop_after, metadata)


def teach(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    base: Base = BASE,
    teacher: TeacherName = TEACHER,
    epochs: Epochs = _TEACH.epochs,
    batch_size: BatchSize = _TEACH.batch_size,
    learning_rate: LearningRate = _TEACH.learning_rate,
    seed: Annotated[int, typer.Option(help="Order of the windows, head, dropout.")] = 1,
    precision: Precision = "auto",
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 15.0,
    stop_after: StopAfter = 0,
) -> None:
    """Fine-tune a teacher on the run's windows; started again, it goes on from its checkpoint."""
    settings = TeachSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision=precision,
        checkpoint_minutes=checkpoint_minutes,
    )
    folder = run / TEACHER_FOLDER
    network = _teacher(run, base, teacher, seed)
    tuner = Teacher(network, Features.load(run / "features.npz"), folder, settings, device=computing_device(device))
    _finish(tuner, folder, stop_after)


def teacher_logits(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    base: Base = BASE,
    teacher: TeacherName = TEACHER,
    batch_size: BatchSize = 64,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Write the fine-tuned teacher's logits of every training window; started again, it goes on."""
    weights = run / TEACHER_FOLDER / "weights.safetensors"
    network = _teacher(run, base, teacher, seed=0)
    network.load_state_dict(read_file(weights))
    features = Features.load(run / "features.npz")
    where = computing_device(device)
    runner = TeacherRunner(network.to(where).eval(), where, computing_dtype(precision, where))
    path = run / TEACHER_FOLDER / LOGITS_FILE
    write_logits(runner, features, path, teacher=digest(weights), batch_size=batch_size)
    typer.echo(f"logits of {len(features)} windows in {path}")


def average(
    run: Run,
    of: Annotated[list[str], typer.Option(help="Folder of the run whose weights go in; . is the run itself.")],
    share: Annotated[list[float] | None, typer.Option(help="Its share, in the same order; equal if not given.")] = None,
    name: Annotated[str, typer.Option(help="Folder of the run to write.")] = "averaged",
) -> None:
    """Average the weights of several trainings that began from one another."""
    path = average_weights(run, of, share or [1.0] * len(of), name)
    typer.echo(f"the mean of {', '.join(of)} is in {path}")


def restore(
    run: Run,
    store: Annotated[Path, typer.Option(help="Model store of the artifact.")],
    model: Annotated[str, typer.Option(help="NAME or NAME@VERSION in it.")] = "default",
    name: Annotated[str, typer.Option(help="Folder of the run to write.")] = "restored",
) -> None:
    """Take the weights of a published model, for training to go on from them."""
    path = restore_weights(run, ModelStore(store).load(model), name)
    typer.echo(f"the weights of {model} are in {path}")


def add_training_stages(app: typer.Typer, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the stages of this module to `app`, each wrapped by `wrap`."""
    stages: dict[str, Callable[..., None]] = {"relate": relate, "adapt": adapt, "teach": teach}
    stages |= {"teacher-logits": teacher_logits, "average": average, "restore": restore}
    for name, stage in stages.items():
        app.command(name=name)(wrap(stage))


def _finish(loop: TrainingLoop, folder: Path, stop_after: int, metadata: dict[str, str] | None = None) -> None:
    """Run a loop; write its weights, with `metadata`, when it is at its end."""
    done = loop.run(stop_after or None)
    if done < loop.steps:
        typer.echo(f"stopped after step {done} of {loop.steps}; the same command goes on")
        return
    save_weights(loop.network, folder / "weights.safetensors", metadata)
    typer.echo(f"{done} steps done; weights in {folder / 'weights.safetensors'}")


def _teacher(run: Path, base: str, name: str, seed: int) -> TeacherNetwork:
    """A teacher that splits some of the run's texts as we do; raises ValueError where it does not."""
    network = load_teacher(resolve_checkpoint(name), resolve_checkpoint(base) / "tokenizer.json", seed)
    records = itertools.islice(load_squad(run / "held_out.json.gz"), CHECKED_QUESTIONS)
    network.pieces.check_texts(text for record in records for text in (record.question, record.context))
    return network
