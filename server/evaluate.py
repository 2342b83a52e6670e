"""Exact match and F1 of a model on questions in SQuAD format, through an engine, one question at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from model_store.errors import ModelStoreError
from model_store.pareto import ParetoTable
from model_store.store import ModelStore
from reading.scoring import score_predictions
from reading.squad import SquadRecord, load_squad, sample_questions
from server.embedded import EmbeddedModel
from server.errors import ModelLoadError
from server.model import load_model
from server.settings import Settings

ALL = "all"
"""In place of the id of a length configuration: every one of the model's Pareto table."""

_EVERY_SECONDS = 2.0


def read_questions(data: Path, limit: int, seed: int) -> list[SquadRecord]:
    """Questions of a SQuAD-format file; a seeded sample over all articles if `limit` is not 0.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has another format, or no questions.
    """
    dataset = load_squad(data)
    questions = sample_questions(dataset, limit, seed) if limit else list(dataset)
    if not questions:
        raise ValueError(f"{data} holds no questions")
    return questions


def evaluate(
    model: EmbeddedModel,
    questions: Sequence[SquadRecord],
    *,
    progress: Callable[[str], None] | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> tuple[dict[str, object], dict[str, str]]:
    """Answer `questions` with the model's own reading defaults and score the best answers.

    Args:
        model: loaded, under its length configuration.
        questions: at least one.
        progress: gets a line about every two seconds.
        clock_ns: monotonic.

    Returns:
        The report (``exact_match`` and ``f1`` in percent, ``questions``, ``questions_per_second`` over
        everything from text to answer, ``engine``, ``length_config``, ``model``), and the answers by question id.
    """
    predictions: dict[str, str] = {}
    start_ns = said_ns = clock_ns()
    for count, question in enumerate(questions, start=1):
        answers = model.answer(question.question, question.context)
        predictions[question.id] = answers[0].text if answers else ""
        now_ns = clock_ns()
        if progress is not None and (now_ns - said_ns) / 1e9 >= _EVERY_SECONDS:
            said_ns = now_ns
            progress(_progress(count, len(questions), (now_ns - start_ns) / 1e9))
    seconds = max((clock_ns() - start_ns) / 1e9, 1e-9)
    score = score_predictions(questions, predictions)
    report: dict[str, object] = {
        "exact_match": round(score.exact_match, 4),
        "f1": round(score.f1, 4),
        "questions": len(questions),
        "questions_per_second": round(len(questions) / seconds, 3),
        "engine": model.engine_name,
        "length_config": model.configuration.id,
        "model": model.reference,
    }
    return report, predictions


def evaluate_all(
    settings: Settings, questions: Sequence[SquadRecord], *, progress: Callable[[str], None] | None = None
) -> dict[str, object]:
    """`evaluate` under every length configuration of the model that `settings` name, loaded once.

    Returns:
        ``{"points": [...]}``, cheapest first: the report of `evaluate` with ``macs``, for one window of the Pareto
        table's mean real length, and ``macs_share`` of the full configuration's; ``mean_macs`` and
        ``mean_macs_share`` are those of these questions, counted one by one.

    Raises:
        ModelLoadError: the model cannot be loaded or warmed up.
    """
    reference, table = _resolve(settings)
    loaded = load_model(settings.model_copy(update={"model": reference}), warm_up=False)
    points: list[dict[str, object]] = []
    means: list[float] = []
    try:
        for point in table.points:
            model = EmbeddedModel(loaded, loaded.configuration(point.id))
            if progress is not None:
                progress(f"length configuration {point.id}, {point.macs / table.full.macs:.0%} of the full cost")
            loaded.engine.warm_up([model.configuration])
            report, _ = evaluate(model, questions, progress=progress)
            mean = sum(model.macs(each.question, each.context) for each in questions) / len(questions)
            means.append(mean)
            points.append({**report, "macs": point.macs, "macs_share": round(point.macs / table.full.macs, 4)})
    except RuntimeError as error:
        raise ModelLoadError(f"{reference} cannot run: {error}") from error
    finally:
        loaded.engine.close()
    shares = [{"mean_macs": round(mean), "mean_macs_share": round(mean / means[-1], 4)} for mean in means]
    return {"points": [{**point, **share} for point, share in zip(points, shares, strict=True)]}


def _resolve(settings: Settings) -> tuple[str, ParetoTable]:
    """``name@version`` and the Pareto table of one and the same version, whoever publishes meanwhile."""
    store = ModelStore(settings.store)
    try:
        reference = store.resolve(settings.model).spec
        return reference, store.load(reference, verify_digests=False).table
    except (ModelStoreError, OSError) as error:
        raise ModelLoadError(f"the model {settings.model!r} cannot be loaded: {error}") from error


def _progress(done: int, total: int, seconds: float) -> str:
    rate = done / seconds
    return f"{done}/{total} questions, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
