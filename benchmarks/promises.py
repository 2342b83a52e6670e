"""What the server promises, measured.  ``python -m benchmarks.promises budgets|hog|dispatch``.

`budgets` and `hog` start the real server on one core and ask it from another (Linux); `dispatch` times the router.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.promise import budgets as budgets_kept
from benchmarks.promise import dispatch as thinking
from benchmarks.promise import hog as load
from benchmarks.promise.pinned import Setup
from benchmarks.report import check_data, finish, plain_errors
from benchmarks.workload import EXCERPT
from server.settings import packaged_store

app = typer.Typer(help="What the server promises, measured.", no_args_is_help=True, add_completion=False)

Store = Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")]
Model = Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")]
Data = Annotated[Path, typer.Option(help="SQuAD format, plain or .gz: the text is taken from it; else an excerpt.")]
ServerCore = Annotated[int, typer.Option(min=0, help="Core of the server, and of the hog.")]
ClientCore = Annotated[int, typer.Option(min=0, help="Core of this process.")]
Calibrate = Annotated[bool, typer.Option(help="Calibrate first; else the server probes as it starts.")]
CalibrationSeconds = Annotated[float, typer.Option(min=1, help="Of the calibration, at most.")]


def _setup(  # noqa: PLR0913, PLR0917 - one parameter per option
    store: Path | None,
    model: str,
    data: Path,
    server_core: int,
    client_core: int,
    calibrate: bool,  # noqa: FBT001 - an option
    calibration_seconds: float,
) -> Setup:
    check_data(data)
    folder = store if store is not None else packaged_store()
    return Setup(model, folder, data, server_core, client_core, calibrate, calibration_seconds)


@app.command()
@plain_errors
def budgets(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Data = EXCERPT,
    store: Store = None,
    model: Model = "default",
    requests: Annotated[int, typer.Option(min=1, help="With each budget, and without.")] = 1000,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before all others.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of budgets.")] = 0,
    server_core: ServerCore = 0,
    client_core: ClientCore = 1,
    calibrate: Calibrate = True,  # noqa: FBT002 - an option
    calibration_seconds: CalibrationSeconds = 100.0,
) -> None:
    """Budgets of 0.8, 1 and 2 times the full p99: kept, and a larger one buys no worse answer."""
    setup = _setup(store, model, data, server_core, client_core, calibrate, calibration_seconds)
    finish(budgets_kept.measure(setup, budgets_kept.BudgetOptions(requests, warm_up, seed)))


@app.command()
@plain_errors
def hog(  # noqa: PLR0913, PLR0917 - likewise
    data: Data = EXCERPT,
    store: Store = None,
    model: Model = "default",
    before: Annotated[float, typer.Option(min=0.1, help="Seconds without the hog.")] = 8.0,
    during: Annotated[float, typer.Option(min=0.1, help="Seconds with it.")] = 15.0,
    after: Annotated[float, typer.Option(min=0.1, help="Seconds without it again.")] = 12.0,
    server_core: ServerCore = 0,
    client_core: ClientCore = 1,
    calibrate: Calibrate = True,  # noqa: FBT002 - an option
    calibration_seconds: CalibrationSeconds = 100.0,
    records: Annotated[Path | None, typer.Option(help="Write every request there, as CSV.")] = None,
) -> None:
    """A CPU hog on the server's core: cheaper within 2 s, back within 5 s, at most a switch a second."""
    setup = _setup(store, model, data, server_core, client_core, calibrate, calibration_seconds)
    finish(load.measure(setup, load.Phases(before, during, after), records))


@app.command()
@plain_errors
def dispatch(
    store: Store = None,
    model: Model = "default",
    rounds: Annotated[int, typer.Option(min=1, help="Of one admission and one dispatch.")] = 2000,
    queued: Annotated[int, typer.Option(min=1, help="Requests that wait before each.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of lengths and budgets.")] = 0,
) -> None:
    """Time to admit and dispatch beside a full queue: at most 100 us at the median."""
    folder = store if store is not None else packaged_store()
    finish(thinking.measure(folder, model, thinking.DispatchOptions(rounds, queued, seed)))


if __name__ == "__main__":
    app()
