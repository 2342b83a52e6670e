"""The whole measurement, and its document."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import growth
from benchmarks.peers.pieces import Piece, Prepared, prepare
from benchmarks.peers.ratios import PEAK_SHARE, Limits, breaches, peak_share, percentiles_ms, ratios
from benchmarks.peers.rounds import Times, asking, f1_of, timed
from benchmarks.peers.systems import FULL, PEAK, Crew, crew, engine_of, entries, within
from benchmarks.report import Document, say
from benchmarks.server_process import BenchmarkError
from model_store import Artifact, ModelStore, macs
from reading import SpanSettings, TextTokenizer, WindowSettings, load_squad, sample_questions
from server.model import reading_kernels

PADDED_LENGTH = 384
"""Tokens; what the papers pad to."""


@dataclass(frozen=True, slots=True)
class PeersOptions:
    """What is measured, on what, and what is asked of it.

    Attributes:
        data: file in SQuAD format.
        store: of the artifact.
        model: NAME or NAME@VERSION.
        cores: that everyone runs on, a thread each.
        ipex_python: interpreter of an environment with the engine ``ipex``; None takes this one.
        only: names of workers; empty takes all.
        questions: that F1 is measured on.
        timed: of them, those that times are measured on.
        padded: of these, those that are also asked padded to `PADDED_LENGTH`; 0 leaves that out.
        runs: rounds over the timed questions.
        growth_step: every so many tokens a length; 0 leaves growth out.
        seed: of questions and order.
        limits: on the ratios.
    """

    data: Path
    store: Path
    model: str
    cores: tuple[int, ...]
    ipex_python: Path | None = None
    only: tuple[str, ...] = ()
    questions: int = 1000
    timed: int = 100
    padded: int = 20
    runs: int = 5
    growth_step: int = 1
    seed: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Material:
    """Model and questions.

    Attributes:
        artifact: of Leeway, whose word pieces everyone takes.
        tokenizer: its own.
        windows: how texts are cut.
        spans: how answers are read off.
        questions: that F1 is measured on.
        timed: places of those that are timed.
    """

    artifact: Artifact
    tokenizer: TextTokenizer
    windows: WindowSettings
    spans: SpanSettings
    questions: list[Prepared]
    timed: list[int]

    @property
    def timed_pieces(self) -> list[list[Piece]]:
        """Windows of the questions that are timed."""
        return [self.questions[place].pieces for place in self.timed]


def measure(options: PeersOptions) -> Document:
    """Everything.

    Raises:
        BenchmarkError: a worker failed, or nobody is there to be measured.
        LeewayError, ModelStoreError, OSError, ValueError: model or data cannot be read.
    """
    material = _material(options)
    table, spec = material.artifact.table, _spec(material.artifact)
    wanted = [
        entry
        for entry in entries(options.store, spec, [point.id for point in table.points], options.ipex_python)
        if not options.only or entry.worker.name in options.only
    ]
    if not wanted:
        raise BenchmarkError(f"none of {', '.join(options.only)} is a worker")
    with crew(wanted, options.store, spec, options.cores) as present:
        if not present.systems:
            raise BenchmarkError("nobody is there to be measured")
        return _measured(present, material, options)


def _measured(present: Crew, material: Material, options: PeersOptions) -> Document:
    ask, names = asking(present), list(present.systems)
    everyone = [*names, PEAK] if PEAK in present.workers else names
    say(f"{len(material.timed)} questions, {options.runs} runs, {len(names)} systems")
    times = timed(ask, everyone, material.timed_pieces, options.runs, options.seed)
    memory = {name: worker.memory_mb() for name, worker in present.workers.items()}
    padded = _padded_times(present, material, options)
    scores = {name: _f1(present, name, material) for name in names if present.systems[name].has_weights}
    grown = _growth(present, material, options) if options.growth_step else None
    within1 = within(material.artifact.table)
    found = ratios(times, within1)
    values = {name: None if each is None else round(each.value, 4) for name, each in found.items()}
    share, peak = _peak(present, times, material)
    return {
        "benchmark": "peers",
        **_circumstances(material, options),
        "left_out": dict(present.left_out),
        "facts": {name: worker.facts for name, worker in present.workers.items()},
        "engine": engine_of(times),
        "within1": within1,
        "int8_peak_gmacs": peak,
        "intervals": {name: each.document() for name, each in found.items() if each is not None},
        "growth": grown,
        "broken": breaches(values, options.limits) + _outliers(grown, options.limits.max_length_outlier),
        "systems": [_line(present, name, times, padded, scores, memory) for name in names],
        "ratios": {**values, PEAK_SHARE: share},
    }


def _line(  # noqa: PLR0913, PLR0917 - what is known of a system
    present: Crew,
    name: str,
    times: Times,
    padded: Times,
    scores: Mapping[str, NDArray[np.float64]],
    memory: Mapping[str, float],
) -> Document:
    system = present.systems[name]
    return {
        "name": name,
        "what": system.what,
        "f1": round(100 * float(scores[name].mean()), 3) if name in scores else None,
        **percentiles_ms(times[name]),
        "rss_mb": round(memory[system.worker], 1),
        "time_only": not system.has_weights,
        "runs": [percentiles_ms(run) for run in times[name]],
        "padded": percentiles_ms(padded[name]) if name in padded else None,
    }


def _material(options: PeersOptions) -> Material:
    artifact = ModelStore(options.store).load(options.model)
    reading = artifact.manifest.reading
    tokenizer = TextTokenizer.from_file(artifact.tokenizer_path, reading_kernels())
    windows = WindowSettings(reading.max_length, reading.overlap, reading.max_question)
    dataset = load_squad(options.data)
    records = sample_questions(dataset, options.questions or len(dataset), options.seed)
    chosen = {record.id for record in sample_questions(dataset, options.timed, options.seed)}
    questions = prepare(records, tokenizer, windows)
    timed_places = [place for place, each in enumerate(questions) if each.record.id in chosen]
    if not timed_places:
        raise ValueError(f"{options.data} holds no questions")
    return Material(artifact, tokenizer, windows, SpanSettings(reading.max_answer), questions, timed_places)


def _padded_times(present: Crew, material: Material, options: PeersOptions) -> Times:
    if not options.padded:
        return {}
    pad_id = material.artifact.manifest.tokenizer.pad_id
    questions = [
        [piece.padded(PADDED_LENGTH, pad_id) for piece in pieces] for pieces in material.timed_pieces[: options.padded]
    ]
    say(f"{len(questions)} questions padded to {PADDED_LENGTH} tokens")
    return timed(asking(present), list(present.systems), questions, 1, options.seed)


def _f1(present: Crew, name: str, material: Material) -> NDArray[np.float64]:
    scores = f1_of(present, name, material.questions, material.spans)
    say(f"{name}: F1 {100 * scores.mean():.2f} on {len(scores)} questions")
    return scores


def _growth(present: Crew, material: Material, options: PeersOptions) -> Document:
    dataset = load_squad(options.data)
    pieces = growth.growth_pieces(material.tokenizer, growth.long_text(dataset, 5), options.growth_step)
    cheapest = material.artifact.table.points[0].id
    ours = [name for name, each in present.systems.items() if name == f"{each.worker}/{each.config}"]
    fine = [name for name in ours if present.systems[name].config in (FULL, cheapest)]
    others = [name for name in present.systems if name not in fine]
    found = growth.by_length(asking(present), fine, others, pieces, material.windows.max_length, options.seed)
    full = f"{engine_of(present.systems)}/{FULL}"
    if full in present.systems:
        say("growth: long texts")
        windows, spans = material.windows, material.spans
        found["texts"] = growth.by_text(present, full, dataset, material.tokenizer, windows=windows, spans=spans)
    return found


def _peak(present: Crew, times: Times, material: Material) -> tuple[float | None, float | None]:
    """Share of the peak that full reaches, and the peak in 10^9 multiply-accumulates per second."""
    full = f"{engine_of(present.systems)}/{FULL}"
    if PEAK not in times or full not in times:
        return None, None
    architecture = material.artifact.manifest.architecture
    lengths = [piece.real_length for pieces in material.timed_pieces for piece in pieces]
    total = sum(macs(architecture, length, [length] * architecture.layers) for length in lengths)
    share, peak = peak_share(times[full], total / 1e9, times[PEAK], present.workers[PEAK].facts["macs"] / 1e9)
    return round(share, 4), round(1e9 * peak, 1)


def _outliers(grown: Document | None, limit: float) -> list[str]:
    return [
        f"{name}: {each['length']} tokens take {each['times']} times the median of their bucket, at most {limit:g}"
        for name, each in (grown["outliers"] if grown else {}).items()
        if each["times"] > limit
    ]


def _circumstances(material: Material, options: PeersOptions) -> dict[str, Any]:
    lengths = [piece.real_length for pieces in material.timed_pieces for piece in pieces]
    return {
        "data": options.data.name,
        "model": _spec(material.artifact),
        "questions": len(material.questions),
        "timed": len(material.timed),
        "runs": options.runs,
        "seed": options.seed,
        "cores": list(options.cores),
        "threads": len(options.cores),
        "processor": _processor(),
        "python": platform.python_version(),
        "mean_tokens": round(float(np.mean(lengths)), 1),
    }


def _spec(artifact: Artifact) -> str:
    return f"{artifact.manifest.name}@{artifact.manifest.version}"


def _processor() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
