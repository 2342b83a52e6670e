"""Do the engines give the same answers?  ``python -m benchmarks.parity --data F``.

The engine ``native`` or ``openvino``, in every precision that this machine has, or ``ipex``, against the engine
``reference`` or another: the same artifact, length configuration and questions.  ``reference`` needs torch (extra
``train``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.agreement import BestSpan, agreement, best_span
from benchmarks.report import Document, check_data, finish, plain_errors, say
from reading import QuestionScores, SquadRecord, paired_bootstrap, score_questions
from server.embedded import EmbeddedModel
from server.engine.interface import EngineInfo, EngineUnavailableError
from server.errors import ModelLoadError
from server.evaluate import read_questions
from server.model import ReadingOptions, load_model
from server.settings import EngineName, Precision, Settings, packaged_store

_IN_BFLOAT16 = ("native", "openvino")
_TWO_BEST = ReadingOptions(top_k=2)
_SAY_EVERY_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """What is compared, and what is asked of it.

    Attributes:
        model: NAME or NAME@VERSION of the int8 artifact.
        store: where it is.
        float_model: the float twin of that artifact (scheme ``none``); None leaves it out.
        float_store: where that is.
        engine: the engine in question.
        against: the engine that it is compared with, in f32.
        config: id of the length configuration, the same for every engine.
        margin: in logits; from this reference margin on a question is clear.
        threads: of every engine; 0 takes what this process may use.
        max_f1_difference: between the two engines, either way, in points of F1.
        min_agreement: share of the clear questions with the same best span.
        max_float_difference: between the engine and the float twin, either way; None asks nothing.
    """

    model: str = "default"
    store: Path = Path()
    float_model: str | None = None
    float_store: Path = Path()
    engine: EngineName = "openvino"
    against: EngineName = "reference"
    config: str = "full"
    margin: float = 1.0
    threads: int = 0
    max_f1_difference: float = 0.5
    min_agreement: float = 1.0
    max_float_difference: float | None = None


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Answers of one engine to all questions, in their order.

    Attributes:
        info: of the engine.
        model: ``name@version``.
        spans: the best span of each question.
        scores: of each question.
        questions_per_second: over everything from text to answer, one question at a time.
    """

    info: EngineInfo
    model: str
    spans: list[BestSpan]
    scores: QuestionScores
    questions_per_second: float

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.info.name} ({self.info.precision})"

    def document(self) -> Document:
        """Engine, model and scores in percent."""
        return {
            "engine": self.info.name,
            "precision": self.info.precision,
            "threads": self.info.threads,
            "model": self.model,
            "exact_match": round(100 * float(self.scores.exact_match.mean()), 4),
            "f1": round(100 * float(self.scores.f1.mean()), 4),
            "questions_per_second": round(self.questions_per_second, 2),
        }


def measure(questions: Sequence[SquadRecord], options: ParityOptions) -> Document:
    """Run every engine on `questions` and compare.

    Raises:
        LeewayError: a model or an engine is not there.
        ValueError: no questions, or a negative margin.
    """
    runs = list(_runs(questions, options))
    reference = _run(_settings(options, options.against, "f32"), questions, options.config)
    twin = None if options.float_model is None else _run(_float_settings(options), questions, options.config)
    against_reference = [compare(run, reference, options.margin) for run in runs]
    against_float = [{"engine": run.label, "f1_difference": f1_difference(run, twin)} for run in runs if twin]
    broken = [breach for found in against_reference for breach in breaches(found, options)]
    return {
        "benchmark": "parity",
        "questions": len(questions),
        "length_config": options.config,
        "against": options.against,
        "margin": options.margin,
        "engines": [run.document() for run in (*runs, reference, twin) if run is not None],
        "against_reference": against_reference,
        "against_float": against_float,
        "broken": broken + _float_breaches(against_float, options.max_float_difference),
    }


def compare(run: EngineRun, reference: EngineRun, margin: float) -> Document:
    """F1 of `run` less F1 of `reference`, and the share of questions with the same best span."""
    found = asdict(agreement(reference.spans, run.spans, margin))
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items()}
    return {"engine": run.label, "f1_difference": f1_difference(run, reference), "best_span": rounded}


def f1_difference(run: EngineRun, other: EngineRun) -> dict[str, float]:
    """Mean paired difference in points of F1 (`run` less `other`) and its 95% bootstrap interval."""
    interval = paired_bootstrap(100 * run.scores.f1, 100 * other.scores.f1, np.random.default_rng(0))
    return {name: round(value, 4) for name, value in asdict(interval).items()}


def breaches(found: Document, options: ParityOptions) -> list[str]:
    """The limits that a comparison with the reference breaks."""
    broken = []
    difference, spans = found["f1_difference"]["mean"], found["best_span"]
    if abs(difference) > options.max_f1_difference:
        broken.append(f"{found['engine']}: F1 differs by {difference:+.3f}, at most {options.max_f1_difference}")
    share = spans["same_when_clear"]
    if share is None:
        broken.append(f"{found['engine']}: no question has a margin of {options.margin}, so nothing is shown")
    elif share < options.min_agreement:
        broken.append(
            f"{found['engine']}: {share:.4f} of the questions with a margin of {options.margin} have the same best "
            f"span, at least {options.min_agreement}"
        )
    return broken


def _float_breaches(floats: Sequence[Document], limit: float | None) -> list[str]:
    return [
        f"{found['engine']}: F1 differs by {found['f1_difference']['mean']:+.3f} from the float twin, at most {limit}"
        for found in floats
        if limit is not None and abs(found["f1_difference"]["mean"]) > limit
    ]


def _settings(options: ParityOptions, engine: EngineName, precision: Precision) -> Settings:
    return Settings(
        store=options.store, model=options.model, engine=engine, precision=precision, threads=options.threads
    )


def _float_settings(options: ParityOptions) -> Settings:
    assert options.float_model is not None
    return Settings(store=options.float_store, model=options.float_model, engine="reference", threads=options.threads)


def _runs(questions: Sequence[SquadRecord], options: ParityOptions) -> Iterator[EngineRun]:
    yield _run(_settings(options, options.engine, "f32"), questions, options.config)
    if options.engine not in _IN_BFLOAT16 or options.against != "reference":
        return
    try:
        yield _run(_settings(options, options.engine, "bf16"), questions, options.config)
    except ModelLoadError as error:
        if not isinstance(error.__cause__, EngineUnavailableError):
            raise
        say(f"left out: {error}")


def _run(settings: Settings, questions: Sequence[SquadRecord], config: str) -> EngineRun:
    model = load_model(settings, warm_up=False)
    configuration = model.configuration(config)
    with EmbeddedModel(model, configuration) as embedded:
        info = model.engine.info
        model.engine.warm_up([configuration])
        spans, predictions = [], {}
        began_ns = said_ns = time.monotonic_ns()
        for count, question in enumerate(questions, start=1):
            answers = embedded.answer(question.question, question.context, _TWO_BEST)
            spans.append(best_span(answers))
            predictions[question.id] = answers[0].text if answers else ""
            if time.monotonic_ns() - said_ns > _SAY_EVERY_NS or count == len(questions):
                said_ns = time.monotonic_ns()
                say(f"{info.name} {info.precision}: {count}/{len(questions)} questions")
        seconds = max((time.monotonic_ns() - began_ns) / 1e9, 1e-9)
    return EngineRun(info, model.reference, spans, score_questions(questions, predictions), len(questions) / seconds)


@plain_errors
def parity(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    data: Annotated[Path, typer.Option(help="Questions in SQuAD format, plain or .gz.")],
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="The int8 artifact: NAME or NAME@VERSION.")] = "default",
    float_model: Annotated[
        str | None, typer.Option(help="Its float twin (scheme none); left out if not given.")
    ] = None,
    float_store: Annotated[Path | None, typer.Option(help="Store of the float twin; --store if not given.")] = None,
    questions: Annotated[int, typer.Option(min=0, help="Questions drawn over all articles; 0: all.")] = 500,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    engine: Annotated[EngineName, typer.Option(help="The engine in question.")] = "openvino",
    against: Annotated[EngineName, typer.Option(help="What it is compared with.")] = "reference",
    config: Annotated[str, typer.Option(help="Id of the length configuration.")] = "full",
    margin: Annotated[float, typer.Option(min=0, help="Logits; from here on a best span is clear.")] = 1.0,
    threads: Annotated[int, typer.Option(min=0, help="Of every engine; 0: what this process may use.")] = 0,
    max_f1_difference: Annotated[float, typer.Option(min=0, help="Limit, either way, in points of F1.")] = 0.5,
    min_agreement: Annotated[float, typer.Option(min=0, max=1, help="Limit: share of the clear questions.")] = 1.0,
    max_float_difference: Annotated[float | None, typer.Option(min=0, help="Limit against the float twin.")] = None,
) -> None:
    """Compare two engines; the last line is one JSON document."""
    check_data(data)
    folder = store if store is not None else packaged_store()
    options = ParityOptions(
        model=model,
        store=folder,
        float_model=float_model,
        float_store=float_store if float_store is not None else folder,
        engine=engine,
        against=against,
        config=config,
        margin=margin,
        threads=threads,
        max_f1_difference=max_f1_difference,
        min_agreement=min_agreement,
        max_float_difference=max_float_difference,
    )
    finish({**measure(read_questions(data, questions, seed), options), "seed": seed, "data": data.name})


if __name__ == "__main__":
    typer.run(parity)
