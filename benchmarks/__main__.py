"""``python -m benchmarks``, which is ``make bench``: engine parity, then start-up and memory, on one data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import footprint, parity
from benchmarks.report import check_data, finish, plain_errors
from benchmarks.workload import EXCERPT
from reading import load_squad
from server.engine import installed_engines
from server.evaluate import read_questions
from server.settings import EngineName, packaged_store


@plain_errors
def bench(
    data: Annotated[
        Path, typer.Option(envvar="DATA", help="Questions in SQuAD format; the committed excerpt if not given.")
    ] = EXCERPT,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    questions: Annotated[int, typer.Option(min=0, help="Questions of the parity run; 0: all.")] = 500,
    requests: Annotated[int, typer.Option(min=4 * footprint.SAMPLE_EVERY, help="Requests to the server.")] = 2000,
) -> None:
    """Engine parity, start-up time and memory of a model; the last line is one JSON document."""
    check_data(data)
    folder = store if store is not None else packaged_store()
    asked = read_questions(data, questions, 0)
    engines: tuple[EngineName, ...] = ("native", "openvino")
    found = {
        **{
            f"parity_{engine}": parity.measure(asked, parity.ParityOptions(model=model, store=folder, engine=engine))
            for engine in engines
            if engine in installed_engines()
        },
        "footprint": footprint.measure(
            load_squad(data), footprint.FootprintOptions(model=model, store=folder, requests=requests)
        ),
    }
    broken = [breach for each in found.values() for breach in each["broken"]]
    finish({"benchmark": "bench", "data": data.name, **found, "broken": broken})


if __name__ == "__main__":
    typer.run(bench)
