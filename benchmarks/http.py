"""What a request costs beyond its inference.  ``python -m benchmarks.http --data F``.

The real server on one core, beside its bare engine; and a minimal FastAPI app around ONNX Runtime int8 of the same
model, beside its bare session. The client has a core of its own (Linux).
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.peers.crew import Worker, WorkerSpec
from benchmarks.peers.exports import export
from benchmarks.peers.pieces import Prepared, drawn
from benchmarks.peers.ratios import percentiles_ms
from benchmarks.peers.rounds import Times, schedule
from benchmarks.peers.weights import OURS
from benchmarks.promise.client import FastClient, Reply, prepared
from benchmarks.promise.figures import percentiles
from benchmarks.promise.pinned import on_core
from benchmarks.report import Document, check_data, finish, plain_errors, say
from benchmarks.server_process import BenchmarkError, ServerProcess, free_port, leeway_serve, memory_mb
from benchmarks.workload import EXCERPT, Asked
from model_store import ModelStore
from model_store.errors import ModelStoreError
from server.engine import installed_engines
from server.settings import packaged_store

LEEWAY, ENGINE, APP, SESSION = "leeway_http", "leeway_engine", "minimal_http", "ort_session"
PAIRS = {LEEWAY: ENGINE, APP: SESSION}
"""What answers over HTTP -> what is inside it."""

_GIVE_UP_SECONDS = 300.0
_PINNED_FULL = {"X-Length-Config": "full"}

Answering = Callable[[Sequence[Prepared]], list[int]]
"""Answers questions one after the other; nanoseconds each."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What is measured, and what is asked of it.

    Attributes:
        data: file in SQuAD format.
        store: of the artifact.
        model: NAME or NAME@VERSION.
        engine: of the server and of the bare engine.
        questions: asked in every run.
        runs: rounds over them, after one that does not count.
        seed: of questions and order.
        server_core: of everything that computes, one thread each.
        client_core: of this process.
        max_added_ms: what HTTP may add to the bare engine at the median.
    """

    data: Path
    store: Path
    model: str
    engine: str
    questions: int = 100
    runs: int = 5
    seed: int = 0
    server_core: int = 0
    client_core: int = 1
    max_added_ms: float = 1.5


def measure(options: HttpOptions) -> Document:
    """All four, in turns.

    Raises:
        BenchmarkError: one of them cannot be started or does not answer.
    """
    if options.server_core == options.client_core:
        raise BenchmarkError("the client needs a core of its own: --client-core and --server-core are the same")
    questions = drawn(ModelStore(options.store).load(options.model), options.data, options.questions, options.seed)
    replies: list[Reply] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leeway-http-")))
        onnx = folder / "model.onnx"
        say("exporting")
        export(OURS, "int8", onnx, options.store, options.model)
        with on_core(options.server_core):
            servers = {
                LEEWAY: stack.enter_context(_leeway(options, folder)),
                APP: stack.enter_context(_minimal_app(options, onnx)),
            }
        workers = _bare(stack, options, onnx)
        stack.enter_context(on_core(options.client_core))
        for name, (server, _) in servers.items():
            say(f"{name}: ready after {server.wait_ready(_GIVE_UP_SECONDS):.1f} s")
        who: dict[str, Answering] = {
            LEEWAY: _over_http(stack, servers[LEEWAY][1], _PINNED_FULL, replies),
            APP: _over_http(stack, servers[APP][1], {}, []),
            **{name: _in_worker(worker) for name, worker in workers.items()},
        }
        times = rounds(who, questions, options.runs, options.seed)
        memory = {name: memory_mb(server.pid)[0] for name, (server, _) in servers.items()}
        memory |= {name: worker.memory_mb() for name, worker in workers.items()}
    stages = {name: percentiles([each.stages_ms[name] for each in replies], (50, 99)) for name in replies[-1].stages_ms}
    return {**document(times, memory, options.max_added_ms), "stages_ms": stages}


def rounds(who: Mapping[str, Answering], questions: Sequence[Prepared], runs: int, seed: int) -> Times:
    """Times of everyone, ``[runs, questions]``; each turn begins with a question that does not count."""
    times = {name: np.zeros((runs, len(questions)), dtype=np.int64) for name in who}
    for turn in schedule(list(who), len(questions), 1, seed):
        who[turn.system](questions[turn.first : turn.last])
    for turn in schedule(list(who), len(questions), runs, seed):
        chunk = questions[turn.first : turn.last]
        times[turn.system][turn.run, turn.first : turn.last] = who[turn.system]([chunk[0], *chunk])[1:]
    return times


def document(times: Times, memory: Mapping[str, float], max_added_ms: float) -> Document:
    """Percentiles of everyone, and what HTTP adds to each question: of its times the median over the runs.

    Args:
        times: of `PAIRS`, both sides.
        memory: resident, MB.
        max_added_ms: limit on Leeway's, at the median.
    """
    added = {name: percentiles(list(_added_ms(times[name], times[inside]))) for name, inside in PAIRS.items()}
    median = added[LEEWAY]["p50"]
    limit = f"HTTP adds {median} ms to the bare engine at the median, at most {max_added_ms:g}"
    return {
        "benchmark": "http",
        "systems": [
            {"name": name, **percentiles_ms(each), "rss_mb": round(memory[name], 1)} for name, each in times.items()
        ],
        "added_ms": added,
        "runs": {name: [percentiles_ms(run) for run in each] for name, each in times.items()},
        "broken": [limit] if median > max_added_ms else [],
    }


def _added_ms(outside: NDArray[np.int64], inside: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (np.median(outside, axis=0) - np.median(inside, axis=0)) / 1e6
    return found


@contextlib.contextmanager
def _leeway(options: HttpOptions, folder: Path) -> Iterator[tuple[ServerProcess, int]]:
    port = free_port()
    where = ("--store", str(options.store.absolute()), "--model", options.model, "--engine", options.engine)
    command = leeway_serve(port, *where, "--threads", "1", "--profile-dir", str(folder / "profiles"))
    with ServerProcess(command, port) as server:
        yield server, port


@contextlib.contextmanager
def _minimal_app(options: HttpOptions, onnx: Path) -> Iterator[tuple[ServerProcess, int]]:
    port = free_port()
    tokenizer = ModelStore(options.store).load(options.model, verify_digests=False).tokenizer_path
    command = [sys.executable, "-m", "benchmarks.minimal_app", str(onnx), str(tokenizer.absolute()), str(port), "1"]
    with ServerProcess(command, port, folder=Path(__file__).resolve().parents[1]) as server:
        yield server, port


def _bare(stack: contextlib.ExitStack, options: HttpOptions, onnx: Path) -> dict[str, Worker]:
    where = {"store": str(options.store.absolute()), "spec": options.model}
    engine = WorkerSpec(ENGINE, {"runner": "leeway", "engine": options.engine, **where})
    session = WorkerSpec(SESSION, {"runner": "onnx", "file": str(onnx)})
    workers = {spec.name: stack.enter_context(Worker(spec, (options.server_core,))) for spec in (engine, session)}
    for worker in workers.values():
        worker.warm_up("full")
    return workers


def _in_worker(worker: Worker) -> Answering:
    def answer(questions: Sequence[Prepared]) -> list[int]:
        times: list[int] = worker.run("full", [each.pieces for each in questions]).times_ns.tolist()
        return times

    return answer


def _over_http(stack: contextlib.ExitStack, port: int, headers: Mapping[str, str], replies: list[Reply]) -> Answering:
    """Asks a server; what it replied is added to `replies`."""
    client = FastClient(port)
    stack.callback(client.close)

    def answer(questions: Sequence[Prepared]) -> list[int]:
        requests = [prepared(Asked(each.record.question, each.record.context), headers) for each in questions]
        found = [client.ask(request) for request in requests]
        bad = next((each.status for each in found if each.status != 200), None)
        if bad is not None:
            raise BenchmarkError(f"a request was answered with status {bad}")
        replies.extend(found)
        return [each.received_ns - each.sent_ns for each in found]

    return answer


@plain_errors
def http(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[
        Path, typer.Option(help="Questions in SQuAD format; the committed excerpt if not given.")
    ] = EXCERPT,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model: NAME or NAME@VERSION.")] = "default",
    engine: Annotated[str, typer.Option(help="Of server and bare engine; the first installed if not given.")] = "",
    questions: Annotated[int, typer.Option(min=1, help="Asked in every run.")] = 100,
    runs: Annotated[int, typer.Option(min=1, help="Rounds over them.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of questions and order.")] = 0,
    server_core: Annotated[int, typer.Option(min=0, help="Core of everything that computes.")] = 0,
    client_core: Annotated[int, typer.Option(min=0, help="Core of this process.")] = 1,
    max_added_ms: Annotated[float, typer.Option(min=0, help="Limit: added to the bare engine, median.")] = 1.5,
) -> None:
    """What HTTP, JSON, tokenizing and reading off the answer add to an inference; the last line is a JSON document."""
    check_data(data)
    folder = store if store is not None else packaged_store()
    inside = engine or installed_engines()[0]
    options = HttpOptions(data, folder, model, inside, questions, runs, seed, server_core, client_core, max_added_ms)
    try:
        found = measure(options)
    except ModelStoreError as error:
        raise BenchmarkError(f"the model {model!r} cannot be loaded: {error}") from error
    finish({**found, "data": data.name, "model": model, "engine": inside, "questions": questions, "seed": seed})


if __name__ == "__main__":
    typer.run(http)
