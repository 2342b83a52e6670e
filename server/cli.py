"""The command ``leeway``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from server.errors import LeewayError, ModelLoadError
from server.options import settings_of, with_settings_options

if TYPE_CHECKING:
    from server.settings import Settings

app = typer.Typer(
    name="leeway",
    help="Extractive question answering on plain CPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Look after the models of a store.", no_args_is_help=True)
app.add_typer(models, name="models")

Store = Annotated[
    Path | None, typer.Option("--store", help="Folder of the model store; the packaged one if not given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ModelArgument = Annotated[str, typer.Argument(help="NAME, NAME@VERSION or NAME@latest.")]


def main() -> None:
    """Entry point."""
    app()


def fail(message: object) -> NoReturn:
    """End with status 1 and one line on stderr."""
    typer.echo(f"leeway: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(1)


@app.command()
@with_settings_options()
def serve(**given: Any) -> None:
    """Serve questions over HTTP.  Every option can also be given as an environment variable LEEWAY_<OPTION>."""
    settings = settings_of(given)
    from server.serve import serve as run

    raise typer.Exit(run(settings))


@app.command()
@with_settings_options("model", "store", "engine", "precision", "threads")
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    context_file: Annotated[str, typer.Option("--context-file", help="UTF-8 text to answer from; - reads stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,  # noqa: FBT002 - an option
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Answers at most.")] = 1,
    **given: Any,
) -> None:
    """Answer one question in this process, without a server."""
    from server.embedded import EmbeddedModel
    from server.model import ReadingOptions

    context = _read_text(context_file)
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            fail(f"the {name} is blank")
    try:
        with EmbeddedModel.load(settings_of(given)) as model:
            answers, configuration = model.answer(question, context, ReadingOptions(top_k=top_k)), model.configuration
            reference = model.reference
    except (LeewayError, ValueError) as error:
        fail(error)
    if as_json:
        found = [{"text": a.text, "score": a.score, "start": a.start, "end": a.end} for a in answers]
        typer.echo(json.dumps({"answers": found, "model": reference, "length_config": configuration.id}))
        return
    for answer in answers:
        typer.echo(answer.text if top_k == 1 else f"{answer.score:.3f}  {answer.text}")
    if not answers:
        fail("the context holds no answer")


@app.command()
@with_settings_options("model", "store", "engine", "precision", "threads")
def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Questions in SQuAD format, plain or .gz.")],
    config: Annotated[str, typer.Option("--config", help="Id of the length configuration, or all.")] = "full",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Questions to draw over all articles; 0: all.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of that draw.")] = 0,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Write the answers there as JSON, {id: text}.")
    ] = None,
    **given: Any,
) -> None:
    """Score a model on questions with known answers; the last line is one JSON document."""
    from server.embedded import EmbeddedModel
    from server.evaluate import ALL, evaluate_all, read_questions
    from server.evaluate import evaluate as run

    if config == ALL and predictions is not None:
        fail("--predictions takes the answers of one length configuration, not of all")

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        questions = read_questions(data, limit, seed)
        if config == ALL:
            typer.echo(json.dumps(evaluate_all(settings_of(given), questions, progress=say)))
            return
        with EmbeddedModel.load(settings_of(given), config, warm_up=True) as model:
            report, answers = run(model, questions, progress=say)
        if predictions is not None:
            predictions.write_text(json.dumps(answers, ensure_ascii=False) + "\n", encoding="utf-8")
    except (LeewayError, OSError, ValueError) as error:
        fail(error)
    typer.echo(json.dumps(report))


@app.command()
@with_settings_options("model", "store", "engine", "precision", "threads", "profile_dir")
def calibrate(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Time to measure an engine, at most.")] = 100.0,
    **given: Any,
) -> None:
    """Measure this host and keep its latency profile; the last line is one JSON document.

    Under the engine auto every installed one is measured; the document is that of the fastest, which auto takes from
    then on, and lists the others.
    """
    from server.choosing import engines_to_calibrate
    from server.profiles import require_writable

    settings = settings_of(given)
    folder = settings.profile_dir
    if folder is None:
        fail("there is no home folder to keep a profile in: name one with --profile-dir")
    try:
        require_writable(folder)  # known before the measurement rather than after it
        measured = list(_calibrate_each(settings, engines_to_calibrate(settings), folder, seconds))
    except OSError as error:
        fail(f"cannot keep a profile in {folder}: {error.strerror or error}")
    except (LeewayError, RuntimeError, ValueError) as error:
        fail(error)
    if not measured:
        fail("none of the installed engines runs here")
    (_, fastest), *others = sorted(measured, key=lambda each: each[0])
    rest = {"others": [document for _, document in others]} if others else {}
    typer.echo(json.dumps({**fastest, **rest}))


def _calibrate_each(
    settings: Settings, engines: Sequence[str], folder: Path, seconds: float
) -> Iterator[tuple[float, dict[str, object]]]:
    """`_calibrate_one` of every engine that runs here; a single one must.

    Raises:
        ModelLoadError: it does not, or the model is at fault.
    """
    from server.engine.interface import EngineUnavailableError

    for name in engines:
        try:
            yield _calibrate_one(settings.model_copy(update={"engine": name}), folder, seconds)
        except ModelLoadError as error:
            if len(engines) == 1 or not isinstance(error.__cause__, EngineUnavailableError):
                raise
            typer.echo(f"left out: {error}", err=True)


def _calibrate_one(settings: Settings, folder: Path, seconds: float) -> tuple[float, dict[str, object]]:
    """Measure the engine of `settings`, keep the profile, show it; its typical nanoseconds, and what to print last."""
    from server.calibration import calibrate as run
    from server.calibration import describe
    from server.choosing import typical_ns
    from server.model import load_model
    from server.profiles import store_profile

    model = load_model(settings, warm_up=False)
    try:
        began_ns = time.monotonic_ns()
        profile = run(model, seconds=seconds, progress=lambda line: typer.echo(line, err=True))
        took = (time.monotonic_ns() - began_ns) / 1e9
    finally:
        model.engine.close()
    path = store_profile(folder, profile)
    for line in describe(profile):
        typer.echo(line)
    cells = len(profile.configurations) * len(profile.lengths)
    document = {"path": str(path), "key": asdict(profile.key), "seconds": round(took, 3), "cells": cells}
    return typical_ns(profile, model.table, model.window_defaults.max_length), document


def _read_text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8 text")
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror or error}")


@models.command("list")
def list_models(store: Store = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - an option
    """Show the models of a store, their versions, and which one is latest."""
    from model_store.errors import ModelStoreError
    from model_store.store import ModelStore

    try:
        found = ModelStore(_root(store)).list_versions()
    except (ModelStoreError, OSError) as error:
        fail(error)
    if as_json:
        listed = [{"name": each.name, "version": each.version, "latest": each.is_latest} for each in found]
        typer.echo(json.dumps(listed))
        return
    for each in found:
        typer.echo(f"{each.spec}{'  latest' if each.is_latest else ''}")


@models.command()
def verify(model: ModelArgument = "default", store: Store = None) -> None:
    """Check a model against its manifest, byte by byte; status 1 and a line per defect if it is not sound."""
    from model_store.errors import ModelStoreError
    from model_store.store import ModelStore

    try:
        opened = ModelStore(_root(store))
        stored, defects = opened.resolve(model), opened.verify(model)
    except (ModelStoreError, OSError) as error:
        fail(error)
    for defect in defects:
        typer.echo(f"{type(defect).__name__}: {defect}", err=True)
    if defects:
        fail(f"{stored.spec} has {len(defects)} defect{'s' if len(defects) > 1 else ''}")
    typer.echo(f"{stored.spec} is sound")


@models.command()
def rollback(name: Annotated[str, typer.Argument(help="Name of the model.")], store: Store = None) -> None:
    """Make the version before the latest one the latest."""
    from model_store.errors import ModelStoreError
    from model_store.store import ModelStore

    try:
        stored = ModelStore(_root(store)).rollback(name)
    except (ModelStoreError, OSError) as error:
        fail(error)
    typer.echo(f"{stored.spec} is now the latest")


def _root(store: Path | None) -> Path:
    """The store to look at, which must be there."""
    root = store if store is not None else settings_of({}).store
    if not root.is_dir():
        fail(f"there is no model store at {root}")
    return root
