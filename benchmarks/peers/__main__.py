"""``python -m benchmarks.peers``: Leeway beside what a user would run instead, question by question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers import plot as picture
from benchmarks.peers import readme
from benchmarks.peers.crew import own_cores
from benchmarks.peers.measure import PeersOptions, measure
from benchmarks.peers.ratios import Limits
from benchmarks.report import Document, check_data, finish, plain_errors
from benchmarks.server_process import BenchmarkError
from benchmarks.workload import EXCERPT
from model_store.errors import ModelStoreError
from server.settings import packaged_store


@plain_errors
def peers(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[
        Path, typer.Option(envvar="DATA", help="Questions in SQuAD format; the committed excerpt if not given.")
    ] = EXCERPT,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    questions: Annotated[int, typer.Option(min=0, help="Questions that F1 is measured on; 0: all.")] = 1000,
    timed: Annotated[int, typer.Option(min=1, help="Of them, those that are timed.")] = 100,
    padded: Annotated[int, typer.Option(min=0, help="Of these, those also padded to 384 tokens.")] = 20,
    runs: Annotated[int, typer.Option(min=1, help="Rounds over the timed questions.")] = 5,
    growth_step: Annotated[int, typer.Option(min=0, help="Tokens between two lengths; 0: no growth.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of questions and order.")] = 0,
    cores: Annotated[str, typer.Option(help="Cores of everyone, as 0,1; all that this process may use.")] = "",
    ipex_python: Annotated[Path | None, typer.Option(help="Python of an environment with the engine ipex.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Take part (several times); all if not given.")] = None,
    min_bert_fp32: Annotated[float, typer.Option(help="Limit on bert_fp32/full.")] = 25.0,
    min_bert_fp32_within1: Annotated[float, typer.Option(help="Limit on bert_fp32/within1.")] = 35.0,
    min_bert_int8: Annotated[float, typer.Option(help="Limit on bert_int8/full.")] = 5.0,
    min_bert_int8_within1: Annotated[float, typer.Option(help="Limit on bert_int8/within1.")] = 7.5,
    min_ort_int8: Annotated[float, typer.Option(help="Limit on ort_int8/full.")] = 1.4,
    min_ort_int8_within1: Annotated[float, typer.Option(help="Limit on ort_int8/within1.")] = 1.9,
    max_dynamic_static: Annotated[float, typer.Option(help="Limit on dynamic/static.")] = 1.1,
    max_length_outlier: Annotated[float, typer.Option(help="Limit: times a bucket's median.")] = 2.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the document here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw latency against F1 here (.png, .svg).")] = None,
    from_file: Annotated[Path | None, typer.Option("--from", help="Measure nothing; take this document.")] = None,
    write_readme: Annotated[Path | None, typer.Option(help="Rewrite the table of this README.")] = None,
) -> None:
    """Latency, throughput, memory and F1 of everyone; the last line is one JSON document."""
    if from_file is not None:
        document = _read(from_file)
    else:
        check_data(data)
        limits = Limits(
            min_bert_fp32,
            min_bert_fp32_within1,
            min_bert_int8,
            min_bert_int8_within1,
            min_ort_int8,
            min_ort_int8_within1,
            max_dynamic_static,
            max_length_outlier,
        )
        document = _measured(
            PeersOptions(
                data,
                store if store is not None else packaged_store(),
                model,
                _cores(cores),
                ipex_python,
                tuple(only or ()),
                questions,
                timed,
                padded,
                runs,
                growth_step,
                seed,
                limits,
            )
        )
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if plot is not None:
        picture.draw(document, plot)
    if write_readme is not None:
        readme.write(document, write_readme)
    finish(document)


def _measured(options: PeersOptions) -> Document:
    try:
        return measure(options)
    except ModelStoreError as error:
        raise BenchmarkError(f"the model {options.model!r} cannot be loaded: {error}") from error


def _read(path: Path) -> Document:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("benchmark") != "peers":
        raise BenchmarkError(f"{path} holds no document of this benchmark")
    return document


def _cores(given: str) -> tuple[int, ...]:
    if not given:
        return own_cores()
    try:
        wanted = tuple(int(core) for core in given.split(","))
    except ValueError as error:
        raise BenchmarkError(f"--cores takes numbers between commas, not {given!r}") from error
    if not set(wanted) <= set(own_cores()):
        raise BenchmarkError(f"this process may not use all of the cores {given}")
    return wanted


if __name__ == "__main__":
    typer.run(peers)
