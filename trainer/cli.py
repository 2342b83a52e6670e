"""The trainer's command line.

A run folder holds everything that the stages hand to each other:

features.npz  held_out.json.gz  run.json     prepare
related/                                     relate
checkpoint/  steps.jsonl  weights.safetensors  finetune
teacher/                                     teach, teacher-logits
adapted/                                     adapt
skimmer/                                     skim
search/                                      search, table
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from model_store import SIGNIFICANCES, Licence, ModelStore, ModelStoreError
from reading import TextTokenizer, load_predictions, load_squad, score_predictions
from server.engine.interface import EngineUnavailableError
from server.engine.threads import available_threads
from trainer.average import RECORD_FILE
from trainer.data import HELD_OUT_SHARE, SPLIT_SEED, hold_out, labelled_questions, load_data, save_squad
from trainer.export import ExportInputs, ExportSettings, export
from trainer.features import Features, make_features
from trainer.finetune import Finetuner, FinetuneSettings, NotFiniteError
from trainer.grids import ActivationCalibration, grids_trained_on
from trainer.precision import computing_device
from trainer.pretrained import load_pretrained, load_weights, resolve_checkpoint, run_architecture, save_weights
from trainer.restore import RESTORED_FILE
from trainer.search.stages import add_stages
from trainer.skim_stages import add_skimming_stages
from trainer.stages import CALIBRATION, CalibrationDrop, CalibrationWindows, Device, Smoothing, add_training_stages
from trainer.tensor_files import digest
from trainer.tiny import write_tiny_checkpoint

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Run = Annotated[Path, typer.Argument(help="Run folder.")]
Base = Annotated[str, typer.Option(help="BERT-style checkpoint: local folder or hub name.")]
BASE = "sentence-transformers/all-MiniLM-L6-v2"

_USER_ERRORS = (OSError, ValueError, KeyError, ModelStoreError, EngineUnavailableError, NotFiniteError)


def _plain_errors(stage: Callable[..., None]) -> Callable[..., None]:
    """One line for what the user can mend, a traceback for what only we can."""

    @wraps(stage)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            stage(*args, **kwargs)
        except _USER_ERRORS as error:
            if logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
                raise
            typer.echo(f"trainer {stage.__name__.rstrip('_')}: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


@app.callback()
def configure(
    threads: Annotated[int, typer.Option(help="Threads; 0 takes what this process may use.")] = 0,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks for every error.")] = False,
) -> None:
    """Train, quantize and publish the models of Leeway."""
    torch.set_num_threads(threads or available_threads())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, stream=sys.stderr)


@app.command()
@_plain_errors
def prepare(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    run: Run,
    data: Annotated[str, typer.Option(help="SQuAD-format file (plain or .gz), or a Hugging Face datasets name.")],
    base: Base = BASE,
    held_out_share: Annotated[float, typer.Option(help="Share of the articles kept out of training.")] = HELD_OUT_SHARE,
    split_seed: Annotated[int, typer.Option(help="Seed of that draw.")] = SPLIT_SEED,
    significance: Annotated[
        str, typer.Option(help="What makes a token worth keeping: attention of all or of question; learned; bilinear.")
    ] = "bilinear",
) -> None:
    """Split the articles and cut the training questions into windows."""
    if significance not in SIGNIFICANCES:
        raise ValueError(f"significance must be one of {', '.join(SIGNIFICANCES)}, got {significance!r}")
    training, held_out = hold_out(load_data(data), held_out_share, split_seed)
    tokenizer = TextTokenizer.from_file(resolve_checkpoint(base) / "tokenizer.json")
    features = make_features(labelled_questions(training), tokenizer)
    run.mkdir(parents=True, exist_ok=True)
    features.save(run / "features.npz")
    save_squad(held_out, run / "held_out.json.gz")
    facts = {
        "data": Path(data).name,
        "base": Path(base).name if Path(base).is_dir() else base,
        "training_questions": len(training),
        "held_out_questions": len(held_out),
        "held_out_articles": [article.title for article in held_out.articles],
        "split_seed": split_seed,
        "significance": significance,
    }
    (run / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    typer.echo(f"{len(features)} windows of {len(training)} questions; {len(held_out)} questions held out")


@app.command()
@_plain_errors
def finetune(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    base: Base = BASE,
    epochs: Annotated[float, typer.Option(help="Passes over the windows; may be fractional.")] = 2.0,
    batch_size: Annotated[int, typer.Option(help="Windows per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Its peak, after the warm-up.")] = 1.5e-4,
    seed: Annotated[int, typer.Option(help="Order of the windows, and a new head's weights.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, bf16 or f32; auto takes bf16 where hardware has it.")] = "auto",
    device: Device = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints.")] = 5.0,
    stop_after: Annotated[int, typer.Option(help="Stop at this step; the same command goes on. 0: never.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to start from in place of the base's.")] = None,
    name: Annotated[str, typer.Option(help="Sub-folder of the run to train in; by default the run itself.")] = "",
) -> None:
    """Fine-tune with every token kept; started again, it goes on from its checkpoint."""
    settings = FinetuneSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision=precision,
        checkpoint_minutes=checkpoint_minutes,
        start=digest(start) if start else "",
    )
    folder = run / name
    network = (
        load_weights(start, run_architecture(run, resolve_checkpoint(base))) if start else load_pretrained(base, seed)
    )
    tuner = Finetuner(network, Features.load(run / "features.npz"), folder, settings, device=computing_device(device))
    done = tuner.run(stop_after or None)
    if done < tuner.steps:
        typer.echo(f"stopped after step {done} of {tuner.steps}; the same command goes on")
        return
    save_weights(network, folder / "weights.safetensors")
    typer.echo(f"{done} steps done; weights in {folder / 'weights.safetensors'}")


@app.command(name="export")
@_plain_errors
def export_(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    store: Annotated[Path, typer.Option(help="Model store to publish in.")],
    base: Base = BASE,
    weights_of: Annotated[str, typer.Option(help="Folder of the run, such as adapted; .: fine-tuned alone.")] = ".",
    name: Annotated[str, typer.Option(help="Model name.")] = "default",
    scheme: Annotated[str, typer.Option(help="int8, or none for the float twin.")] = "int8",
    smoothing: Smoothing = CALIBRATION.smoothing,
    calibration_windows: CalibrationWindows = CALIBRATION.windows,
    calibration_drop: CalibrationDrop = CALIBRATION.drop,
    engine: Annotated[str, typer.Option(help="Engine that measures F1.")] = "openvino",
    report_dev: Annotated[Path | None, typer.Option(help="SQuAD dev file, for the report only.")] = None,
) -> None:
    """Quantize, measure F1 on the held-out articles through an engine, and publish an artifact.

    Weights of quantization-aware training are quantized on the grids that they were trained on.
    """
    folder = resolve_checkpoint(base)
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    calibration = ActivationCalibration(calibration_windows, calibration_drop, smoothing)
    settings = ExportSettings(scheme, calibration, engine=engine)
    weights = run / weights_of / "weights.safetensors"
    inputs = ExportInputs(
        network=load_weights(weights, run_architecture(run, folder)),
        features=Features.load(run / "features.npz"),
        tokenizer=folder / "tokenizer.json",
        held_out=list(load_squad(run / "held_out.json.gz")),
        dev=list(load_squad(report_dev)) if report_dev else (),
        training=facts | efforts(run, weights_of),
        licences=_licences(facts),
        trained_on=grids_trained_on(weights),
    )
    published = export(inputs, settings, ModelStore(store), name, run / "drafts")
    manifest = ModelStore(store).load(published.spec).manifest
    typer.echo(f"published {published.spec} in {store}")
    typer.echo(json.dumps(manifest.metrics))


@app.command(name="tiny-base")
@_plain_errors
def tiny_base(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    data: Annotated[str, typer.Option(help="Where its word pieces come from.")],
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Write a tiny random checkpoint in Hugging Face's form, for trying the stages out."""
    write_tiny_checkpoint(folder, load_data(data), seed)
    typer.echo(f"a tiny random checkpoint is in {folder}")


@app.command()
@_plain_errors
def score(
    data: Annotated[Path, typer.Argument(help="SQuAD-format file, plain or .gz.")],
    predictions: Annotated[Path, typer.Argument(help="JSON {question id: answer text}, plain or .gz.")],
) -> None:
    """Official SQuAD 1.1 exact match and F1 of a file of predictions; the last line is JSON."""
    result = score_predictions(load_squad(data), load_predictions(predictions))
    typer.echo(
        json.dumps(
            {
                "exact_match": round(result.exact_match, 4),
                "f1": round(result.f1, 4),
                "questions": result.questions,
                "missing": result.missing,
            }
        )
    )


add_training_stages(app, _plain_errors)
add_skimming_stages(app, _plain_errors)
add_stages(app, _plain_errors)


def efforts(run: Path, weights_of: str) -> dict[str, object]:
    """What made the weights: fine-tuning (here, if not elsewhere), and the stage after it if theirs are others."""
    record = run / weights_of / RECORD_FILE
    if record.exists():
        facts: dict[str, object] = json.loads(record.read_text(encoding="utf-8"))
        names = facts["average_of"]
        assert isinstance(names, dict)
        return facts | {("finetuning" if name == "." else name): _part(run, name) for name in names}
    folders = {"finetuning": run} | ({} if weights_of == "." else {weights_of: run / weights_of})
    return {name: _effort(folder) for name, folder in folders.items() if folder != run or (run / "checkpoint").exists()}


def _part(run: Path, name: str) -> dict[str, object]:
    """What made one part of a mean, which may be a mean itself."""
    return efforts(run, name) if (run / name / RECORD_FILE).exists() else _effort(run / name)


def _effort(folder: Path) -> dict[str, object]:
    """Settings and effort of a training run, from its checkpoint and step log; or what was restored in its place."""
    if (folder / RESTORED_FILE).exists():
        restored: dict[str, object] = json.loads((folder / RESTORED_FILE).read_text(encoding="utf-8"))
        return restored
    progress = json.loads((folder / "checkpoint" / "progress.json").read_text(encoding="utf-8"))
    with (folder / "steps.jsonl").open(encoding="utf-8") as lines:
        seconds = sum(json.loads(line)["seconds"] for line in lines)
    return {**progress["settings"], "steps": progress["step"], "hours": round(seconds / 3600, 3)}


def _licences(facts: dict[str, Any]) -> tuple[Licence, ...]:
    return (
        Licence("weights, from " + facts["base"], "Apache-2.0", "sentence-transformers; MiniLM: Wang et al. 2020"),
        Licence(
            "training data " + facts["data"],
            "CC-BY-SA-4.0",
            "Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016",
        ),
    )


def main() -> None:
    """Entry point of ``python -m trainer``."""
    app()
