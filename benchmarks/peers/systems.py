"""Who takes part, and what each needs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.crew import UnavailableError, Worker, WorkerSpec
from benchmarks.peers.exports import export
from benchmarks.peers.weights import OURS
from benchmarks.report import say
from benchmarks.server_process import BenchmarkError
from model_store import ParetoTable

OPENVINO = "openvino"
LEEWAY = ("native", OPENVINO)
"""Engines of Leeway that the ratios are of: the first of them that is there."""

FULL = "full"
PEAK = "int8_peak"

WITHIN_POINTS = 1.0


@dataclass(frozen=True, slots=True)
class System:
    """One line of the table.

    Attributes:
        name: of the system.
        what: for people.
        worker: that runs it.
        config: id of the length configuration, where it has any.
        has_weights: whether its answers mean something; else its weights are random, and only its time counts.
    """

    name: str
    what: str
    worker: str
    config: str = FULL
    has_weights: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker and the systems that it runs.

    Attributes:
        worker: without the ONNX file that it may need.
        systems: at least one.
        onnx: model and form of that file (`exports.export`).
    """

    worker: WorkerSpec
    systems: tuple[System, ...]
    onnx: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Crew:
    """Who is there.

    Attributes:
        systems: by name, in the order of the report; `PEAK` is none of them.
        workers: by name.
        left_out: name of a worker -> why it is not there.
    """

    systems: Mapping[str, System]
    workers: Mapping[str, Worker]
    left_out: Mapping[str, str]


def entries(store: Path, spec: str, configurations: Sequence[str], ipex_python: Path | None) -> list[Entry]:
    """Everyone.

    Args:
        store: of the artifact.
        spec: NAME@VERSION.
        configurations: ids of its length configurations, cheapest first.
        ipex_python: interpreter of an environment with the engine ``ipex``; this one if not given.
    """
    where = {"store": str(store.absolute()), "spec": spec}

    def torch(name: str, model: str, what: str) -> Entry:
        settings = {"runner": "torch_eager", "model": model, **where}
        return Entry(WorkerSpec(name, settings), (System(name, what, name, has_weights=model == OURS),))

    def static(name: str, model: str, what: str) -> Entry:
        settings = {"runner": "static", "model": model, **where}
        return Entry(WorkerSpec(name, settings), (System(name, what, name, has_weights=model == OURS),))

    def onnx(name: str, model: str, form: str, what: str) -> Entry:
        system = System(name, what, name, has_weights=model == OURS)
        return Entry(WorkerSpec(name, {"runner": "onnx"}), (system,), (model, form))

    def leeway(engine: str, python: Path | None) -> Entry:
        systems = tuple(
            System(f"{engine}/{config}", f"Leeway, engine {engine}, {config}", engine, config)
            for config in reversed(configurations)
        )
        return Entry(WorkerSpec(engine, {"runner": "leeway", "engine": engine, **where}, python), systems)

    return [
        torch("bert_fp32", "bert_base", "BERT-base, fp32, torch eager"),
        static("bert_int8", "bert_base", "BERT-base, int8, OpenVINO, a static graph per bucket"),
        onnx("distilbert_fp32", "distilbert", "fp32", "DistilBERT's shape, fp32, ONNX Runtime"),
        torch("minilm_fp32", OURS, "our MiniLM, fp32, torch eager"),
        onnx("ort_int8", OURS, "int8", "our MiniLM, dynamic int8, ONNX Runtime"),
        onnx("ort_int8_fused", OURS, "int8_fused", "the same behind ONNX Runtime's optimizer for BERT"),
        static("static", OURS, "our MiniLM, int8, OpenVINO, a static graph per bucket"),
        *(leeway(engine, None) for engine in LEEWAY),
        leeway("ipex", ipex_python),
        Entry(WorkerSpec(PEAK, {"runner": "peak"}), (System(PEAK, "an int8 product", PEAK, has_weights=False),)),
    ]


@contextlib.contextmanager
def crew(wanted: Sequence[Entry], store: Path, spec: str, cores: Sequence[int]) -> Iterator[Crew]:
    """Start everyone that can be started; the others are left out, with the reason.

    Raises:
        BenchmarkError: a worker ended for no reason that it could give.
    """
    systems: dict[str, System] = {}
    workers: dict[str, Worker] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leeway-peers-")))
        for entry in wanted:
            name = entry.worker.name
            say(f"starting {name}")
            try:
                worker = stack.enter_context(Worker(_with_file(entry, folder, store, spec), cores))
            except UnavailableError as error:
                left_out[name] = str(error)
                say(f"left out: {name}: {error}")
                continue
            workers[name] = worker
            systems |= {system.name: system for system in entry.systems if name != PEAK}
            for system in entry.systems:
                worker.warm_up(system.config)
        yield Crew(systems, workers, left_out)


def engine_of(systems: Collection[str]) -> str:
    """Leeway's engine in the ratios, by the names of the systems that are there."""
    return next((engine for engine in LEEWAY if f"{engine}/{FULL}" in systems), OPENVINO)


def within(table: ParetoTable, points: float = WITHIN_POINTS) -> str:
    """The cheapest length configuration whose held-out F1 is at most `points` below that of full."""
    enough = table.full.held_out_f1 - points
    return next(point.id for point in table.points if point.held_out_f1 >= enough)


def _with_file(entry: Entry, folder: Path, store: Path, spec: str) -> WorkerSpec:
    """The worker's settings, with the ONNX file that it needs, which is written now."""
    if entry.onnx is None:
        return entry.worker
    model, form = entry.onnx
    path = folder / f"{entry.worker.name}.onnx"
    try:
        export(model, form, path, store, spec)
    except BenchmarkError as error:
        raise UnavailableError(str(error)) from error
    return WorkerSpec(entry.worker.name, {**entry.worker.settings, "file": str(path)}, entry.worker.python)
