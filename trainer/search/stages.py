"""The stages of ``python -m trainer``: search, table, compare-float, plot, publish-table.

They read ``held_out.json.gz`` of a run folder and write its folder ``search/``: ``evaluations.jsonl``, ``search.png``,
``rescored.json``, ``pareto_table.json``, ``frozen.json``, ``dev.json``, ``reported_table.json`` and ``int8_loss.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from model_store import ModelStore
from reading import SquadDataset, load_squad
from trainer.publishing import publish_table
from trainer.search import reports
from trainer.search.frozen import published_table, read_frozen
from trainer.search.record import EVALUATIONS_FILE, read_record
from trainer.search.running import SearchOptions, TableOptions, dev_report, int8_losses, make_frozen, run_search

Run = Annotated[Path, typer.Argument(help="Run folder.")]
Store = Annotated[Path, typer.Option(help="Model store of the int8 artifact.")]
Model = Annotated[str, typer.Option(help="NAME or NAME@VERSION in it.")]
EngineName = Annotated[str, typer.Option(help="Engine that answers.")]
Threads = Annotated[
    int,
    typer.Option(help="So many engines of one thread, each with its memory; 0 takes what this process may use."),
]

FOLDER = "search"
INTERRUPTED = 130


def search(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    run: Run,
    store: Store,
    model: Model = "default",
    searcher: Annotated[str, typer.Option(help="evolution or tpe.")] = "evolution",
    cost: Annotated[str, typer.Option(help="macs, or time on this machine.")] = "macs",
    evaluations: Annotated[int, typer.Option(help="Configurations to evaluate in all.")] = 300,
    questions: Annotated[int, typer.Option(help="Held-out questions per evaluation; 0: all of that half.")] = 1000,
    drop: Annotated[float, typer.Option(help="LengthDrop's probability: sets the smallest configuration.")] = 0.4,
    exempt_tokens: Annotated[int, typer.Option(help="Tokens of a window that ratios do not count; steps of 8.")] = 16,
    input_drop: Annotated[
        float, typer.Option(help="Largest share of a window that the skimmer leaves out before the layers; 0: nothing.")
    ] = 0.0,
    offspring: Annotated[int, typer.Option(help="Of evolution: mutations, and as many cross-overs, per round.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the searcher and of the draw of questions.")] = 0,
    engine: EngineName = "openvino",
    threads: Threads = 0,
    begin_with: Annotated[
        Path | None,
        typer.Option(help="evaluations.jsonl of an earlier search, of any model; its frontier is evaluated early."),
    ] = None,
) -> None:
    """Look for length configurations worth having; started again, it goes on."""
    options = SearchOptions(
        searcher,
        cost,
        evaluations,
        questions,
        drop,
        exempt_tokens,
        input_drop,
        offspring,
        seed,
        engine,
        threads,
        begin_with,
    )
    artifact = ModelStore(store).load(model)
    result = run_search(run / FOLDER, artifact, _held_out(run), options)
    typer.echo(f"{len(result.evaluations)} evaluations, {len(result.front)} of them not dominated")
    if result.interrupted:
        typer.echo("interrupted; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    for line in reports.summary(read_record(run / FOLDER / EVALUATIONS_FILE)):
        typer.echo(line)
    plot(run)


def table(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    store: Store,
    model: Model = "default",
    candidates: Annotated[int, typer.Option(help="Points of the frontier to score again.")] = 30,
    points: Annotated[int, typer.Option(help="Points of the table at most.")] = 16,
    questions: Annotated[int, typer.Option(help="Held-out questions per point; 0: all of the other half.")] = 0,
    report_dev: Annotated[Path | None, typer.Option(help="SQuAD dev file, for the report only, once frozen.")] = None,
    engine: EngineName = "openvino",
    threads: Threads = 0,
) -> None:
    """Score the frontier again on other held-out articles and freeze the table; then, if asked, report dev F1."""
    artifact = ModelStore(store).load(model)
    options = TableOptions(candidates, points, questions, engine, threads)
    frozen = make_frozen(run / FOLDER, artifact, _held_out(run), options)
    shown = frozen.table
    if report_dev is not None:
        shown = dev_report(run / FOLDER, artifact, report_dev, options)
    for line in reports.table_lines(shown):
        typer.echo(line)
    typer.echo(f"frozen, SHA-256 {frozen.sha256}")
    plot(run)


def compare_float(  # noqa: PLR0913, PLR0917 - as above
    run: Run,
    store: Store,
    model: Model = "default",
    float_model: Annotated[
        str, typer.Option(help="Its float twin, of the same store (export --scheme none).")
    ] = "float",
    questions: Annotated[int, typer.Option(help="Held-out questions of the table's half; 0: all.")] = 0,
    engine: EngineName = "openvino",
    float_engine: Annotated[str, typer.Option(help="Engine of the float twin; the same by default.")] = "",
    threads: Threads = 0,
) -> None:
    """What int8 costs: F1 of the float twin at every point of the frozen table, on the table's held-out questions."""
    models = ModelStore(store)
    options = TableOptions(0, 0, questions, engine, threads)
    pair = models.load(model), models.load(float_model)
    losses = int8_losses(run / FOLDER, *pair, _held_out(run), options, float_engine=float_engine)
    for line in reports.loss_lines(losses):
        typer.echo(line)


def plot(run: Run) -> None:
    """Draw every evaluated point, the frontier, constant-ratio dropping and the table if there is one."""
    typer.echo(f"drawn in {reports.draw(run / FOLDER)}")


def publish_table_(
    run: Run,
    store: Store,
    model: Model = "default",
    target: Annotated[Path | None, typer.Option(help="Store to publish in; the same by default.")] = None,
    name: Annotated[str | None, typer.Option(help="Model name there; the same by default.")] = None,
) -> None:
    """Publish a new version of the model: the same tensors, with the frozen table."""
    artifact = ModelStore(store).load(model)
    frozen = read_frozen(run / FOLDER)
    if frozen.facts["artifact"] != artifact.digest:
        raise ValueError(f"the table was made for another artifact than {model}: digest {frozen.facts['artifact']}")
    facts = {**frozen.facts, "frozen_sha256": frozen.sha256}
    published = publish_table(
        artifact, published_table(run / FOLDER), ModelStore(target or store), name or artifact.manifest.name, facts
    )
    typer.echo(f"published {published.spec} in {target or store}")


def add_stages(app: typer.Typer, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the stages of this module to `app`, each wrapped by `wrap`."""
    stages: dict[str, Callable[..., None]] = {
        "search": search,
        "table": table,
        "compare-float": compare_float,
        "plot": plot,
        "publish-table": publish_table_,
    }
    for name, stage in stages.items():
        app.command(name=name)(wrap(stage))


def _held_out(run: Path) -> SquadDataset:
    return load_squad(run / "held_out.json.gz")
