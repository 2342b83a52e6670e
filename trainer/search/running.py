"""Searches and tables on a real artifact: engine, questions, files and progress around the pure parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model_store import Artifact, LengthConfiguration, ParetoTable
from model_store.files import sha256_of
from model_store.length_config import COUNT_STEP
from reading import QuestionScores, SquadDataset, SquadRecord, load_squad
from server.engine import create_engine
from server.engine.interface import Engine
from trainer.evaluation import engines_running, evaluate_questions
from trainer.search.comparing import Loss, int8_loss
from trainer.search.core import CostFunction, SearchResult, SearchSettings, search
from trainer.search.costs import macs_cost, nominal_length, time_cost
from trainer.search.front import Evaluation, compare_areas, non_dominated
from trainer.search.frozen import (
    FROZEN_FILE,
    Frozen,
    FrozenTableError,
    freeze,
    read_frozen,
    report_dev,
    write_json,
)
from trainer.search.genes import Genes, GeneSpace
from trainer.search.record import EVALUATIONS_FILE, Record, RecordError, RecordWriter, read_record
from trainer.search.scores import SPLIT_SEED, draw, f1_score, sample_windows, split_articles
from trainer.search.table import Rescored, candidates, make_table, rescore

COSTS = ("macs", "time")
CONSTANT_RATIOS = 22
TIMED_WINDOWS = 8
TIMED_ROUNDS = 7
RESCORED_FILE = "rescored.json"
LOSSES_FILE = "int8_loss.json"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of the stage ``search``; see its help."""

    searcher: str
    cost: str
    evaluations: int
    questions: int
    drop: float
    exempt_tokens: int
    input_drop: float
    offspring: int
    seed: int
    engine: str
    threads: int
    begin_with: Path | None = None


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The options of the stage ``table``; see its help."""

    candidates: int
    points: int
    questions: int
    engine: str
    threads: int


def run_search(folder: Path, artifact: Artifact, held_out: SquadDataset, options: SearchOptions) -> SearchResult:
    """Search, or go on searching, with every evaluation in ``evaluations.jsonl``.

    Raises:
        ValueError: an unknown searcher or cost, a record of other settings, or one to begin with that has genes of
            another space.
        OSError: there is no record to begin with.
        EngineUnavailableError: no such engine here.
    """
    if options.cost not in COSTS:
        raise ValueError(f"there is no cost {options.cost!r}; the costs are {', '.join(COSTS)}")
    length = nominal_length(artifact.table.mean_real_length)
    if options.exempt_tokens % COUNT_STEP:
        raise ValueError(f"exempt tokens come in steps of {COUNT_STEP}, got {options.exempt_tokens}")
    exempt = options.exempt_tokens // COUNT_STEP
    if options.input_drop and not artifact.has_skimmer:
        raise ValueError("the model has no skimmer, so nothing can be left out before its layers; use --input-drop 0")
    layers, levels = artifact.manifest.architecture.layers, length // COUNT_STEP
    space = GeneSpace.of_drop(layers, levels, options.drop, exempt, options.input_drop)
    known_good = _frontier(options.begin_with) if options.begin_with else ()
    settings = SearchSettings(
        space, options.searcher, options.evaluations, CONSTANT_RATIOS, options.offspring, known_good
    )
    questions = draw(split_articles(held_out, SPLIT_SEED).search, options.questions, options.seed)
    said = _settings(artifact, held_out, options, space, length)
    with (
        _cost(artifact, questions, options, length) as cost,
        engines_running(artifact, options.engine, options.threads) as engines,
        RecordWriter(folder / EVALUATIONS_FILE, said) as writer,
        tqdm(total=options.evaluations, initial=len(writer.evaluations), unit="configuration") as bar,
    ):

        def save(evaluation: Evaluation) -> None:
            writer.append(evaluation)
            bar.set_postfix(cost=f"{evaluation.cost:.4g}", f1=f"{evaluation.score:.2f}", refresh=False)
            bar.update()

        return search(
            cost,
            f1_score(artifact, engines, questions),
            np.random.default_rng(options.seed),
            settings,
            recorded=writer.evaluations,
            on_evaluation=save,
        )


def make_frozen(folder: Path, artifact: Artifact, held_out: SquadDataset, options: TableOptions) -> Frozen:
    """The frozen table in `folder`; made now if it is not there yet.

    Candidates and the constant-ratio baseline are scored on the articles that the search did not see; what
    was scored is in ``rescored.json``, so an interrupted run goes on.

    Raises:
        FrozenTableError, RecordError: what is there is damaged, or of another artifact.
    """
    record = read_record(folder / EVALUATIONS_FILE)
    _check_artifact(record, artifact, held_out)
    if (folder / FROZEN_FILE).exists():
        frozen = read_frozen(folder)
        if frozen.facts["artifact"] != artifact.digest:
            raise FrozenTableError(f"the table in {folder} was made for another artifact")
        return frozen
    part = split_articles(held_out, SPLIT_SEED).table
    questions = draw(part, options.questions, SPLIT_SEED)
    chosen, baseline = candidates(record.space, record.evaluations, options.candidates), baseline_genes(record)
    said = {"artifact": artifact.digest, "engine": options.engine, "questions": len(questions)}
    with engines_running(artifact, options.engine, options.threads) as engines:
        found = _rescore_into(
            folder / RESCORED_FILE, record.space, (*chosen, *baseline), _scores_of(artifact, engines, questions), said
        )
    length = record.settings["real_length"]
    cost_at = partial(macs_cost, artifact.manifest.architecture)
    longest = max(length, artifact.manifest.reading.max_length)
    table = make_table(
        record.space,
        [found[genes] for genes in chosen],
        cost_at,
        range(length, longest + 1),
        options.points,
    )
    facts = {**said, "articles": len(part.articles), "evaluations": len(record.evaluations), "search": record.settings}
    return freeze(folder, table, facts | {"area": _areas(record.space, found, chosen, baseline, cost_at(length))})


def dev_report(folder: Path, artifact: Artifact, data: Path, options: TableOptions) -> ParetoTable:
    """Dev figures for the frozen table in `folder`; raises as `frozen.report_dev`."""
    questions = list(load_squad(data))
    about = {"sha256": sha256_of(data), "questions": len(questions), "engine": options.engine}
    with engines_running(artifact, options.engine, options.threads) as engines:
        return report_dev(folder, about, _scores_of(artifact, engines, questions))


def int8_losses(  # noqa: PLR0913 - two models with an engine each, and what they are compared on
    folder: Path,
    artifact: Artifact,
    twin: Artifact,
    held_out: SquadDataset,
    options: TableOptions,
    *,
    float_engine: str = "",
) -> list[Loss]:
    """What int8 costs at each point of the frozen table in `folder`, on the table's questions; never on dev.

    Args:
        folder: of the search.
        artifact: int8, run by the engine of `options`.
        twin: the same weights in float.
        held_out: articles.
        options: their ``questions``, ``engine`` and ``threads``.
        float_engine: runs `twin`, as not every engine runs floats; empty takes the one that runs `artifact`.

    Raises:
        FrozenTableError: see `read_frozen`; or the table is another artifact's.
        ValueError: `twin` is no float artifact of the same architecture.
    """
    frozen = read_frozen(folder)
    if frozen.facts["artifact"] != artifact.digest:
        raise FrozenTableError(f"the table in {folder} was made for another artifact")
    scheme, same = twin.manifest.quantization.scheme, twin.manifest.architecture == artifact.manifest.architecture
    if scheme != "none" or not same:
        raise ValueError(
            f"{twin.manifest.name} is no float twin: its scheme is {scheme!r}, its architecture the same: {same}"
        )
    questions = draw(split_articles(held_out, SPLIT_SEED).table, options.questions, SPLIT_SEED)
    losses = []
    with (
        engines_running(artifact, options.engine, options.threads) as int8,
        engines_running(twin, float_engine or options.engine, options.threads) as floats,
    ):
        for point in frozen.table.points:
            pair = _scores_of(artifact, int8, questions), _scores_of(twin, floats, questions)
            losses.append(int8_loss(point.configuration, *pair, SPLIT_SEED))
    engines = {"engine": options.engine, "float_engine": float_engine or options.engine}
    said = {"artifact": artifact.digest, "float": twin.digest, "questions": len(questions)}
    write_json(folder / LOSSES_FILE, {**said, **engines, "points": [asdict(loss) for loss in losses]})
    return losses


def baseline_genes(record: Record) -> tuple[Genes, ...]:
    """Constant-ratio dropping, of what the record's search began with."""
    return record.space.constant_ratios(record.settings["constant_ratios"])


def _settings(
    artifact: Artifact, held_out: SquadDataset, options: SearchOptions, space: GeneSpace, length: int
) -> dict[str, Any]:
    """All that the outcome of a search depends on; how many evaluations may change, to go on."""
    elsewhere = ("evaluations", "threads", "begin_with")
    chosen = {key: value for key, value in asdict(options).items() if key not in elsewhere}
    if options.begin_with is not None:
        chosen["begin_with"] = sha256_of(options.begin_with)
    if not options.exempt_tokens:
        del chosen["exempt_tokens"]  # records from before there were any go on
    if not options.input_drop:
        del chosen["input_drop"]  # likewise
    return {
        **chosen,
        "artifact": artifact.digest,
        "held_out": _fingerprint(held_out),
        "split_seed": SPLIT_SEED,
        "real_length": length,
        "levels": space.levels,
        "smallest": list(space.smallest),
        "constant_ratios": CONSTANT_RATIOS,
    }


def _frontier(path: Path) -> tuple[Genes, ...]:
    """Genes of the non-dominated evaluations of a record, dearest first."""
    return tuple(each.genes for each in reversed(non_dominated(read_record(path).evaluations)))


def _fingerprint(dataset: SquadDataset) -> str:
    """SHA-256 of the questions' ids in their order."""
    return hashlib.sha256("\n".join(record.id for record in dataset).encode()).hexdigest()


def _check_artifact(record: Record, artifact: Artifact, held_out: SquadDataset) -> None:
    there = {key: record.settings.get(key) for key in ("artifact", "held_out")}
    here = {"artifact": artifact.digest, "held_out": _fingerprint(held_out)}
    if there != here:
        raise RecordError(f"the search ran on another artifact or other held-out questions ({there}, not {here})")


@contextmanager
def _cost(
    artifact: Artifact, questions: list[SquadRecord], options: SearchOptions, length: int
) -> Iterator[CostFunction]:
    """MACs, or the time of an engine with all threads, as the server runs it."""
    if options.cost == "macs":
        yield macs_cost(artifact.manifest.architecture, length)
        return
    with closing(create_engine(options.engine, artifact, threads=options.threads)) as engine:
        yield time_cost(engine, sample_windows(artifact, questions, TIMED_WINDOWS), TIMED_ROUNDS)


def _scores_of(
    artifact: Artifact, engines: Sequence[Engine], questions: list[SquadRecord]
) -> Callable[[LengthConfiguration], QuestionScores]:
    return lambda configuration: evaluate_questions(artifact, engines, configuration, questions)


def _rescore_into(
    path: Path,
    space: GeneSpace,
    wanted: tuple[Genes, ...],
    evaluate: Callable[[LengthConfiguration], QuestionScores],
    said: Mapping[str, Any],
) -> dict[Genes, Rescored]:
    """`table.rescore` with all that is known in `path`."""
    known: list[Rescored] = []
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there["made_with"] != dict(said):
            raise RecordError(f"{path} was made with {there['made_with']}, not {dict(said)}; move it away")
        known = [Rescored(**(row | {"genes": tuple(row["genes"])})) for row in there["points"]]

    def save(one: Rescored) -> None:
        known.append(one)
        write_json(path, {"made_with": dict(said), "points": [asdict(each) for each in known]})

    rescored = rescore(space, wanted, evaluate, seed=SPLIT_SEED, known=tuple(known), on_rescored=save)
    return {each.genes: each for each in rescored}


def _areas(
    space: GeneSpace,
    found: Mapping[Genes, Rescored],
    chosen: tuple[Genes, ...],
    baseline: tuple[Genes, ...],
    cost: CostFunction,
) -> dict[str, float]:
    """Areas under the candidates' and the baseline's frontier, on the table's questions."""
    fronts = [
        [Evaluation(genes, cost(space.configuration(genes)), found[genes].f1) for genes in part]
        for part in (chosen, baseline)
    ]
    areas = compare_areas(*fronts)
    return {"candidates": areas.found, "constant_ratio": areas.baseline, "low": areas.low, "high": areas.high}
