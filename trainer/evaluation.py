"""Questions cut into windows as an artifact wants them, and its F1 on them through an engine of the server's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from model_store import Artifact, LengthConfiguration
from reading import (
    QuestionScores,
    SpanSettings,
    SquadRecord,
    TextTokenizer,
    TokenizedText,
    Window,
    WindowSettings,
    best_answers,
    make_windows,
    score_questions,
)
from server.engine.interface import Engine
from server.engine.skimming import ranked_windows


class CutQuestion(NamedTuple):
    """A question, the tokens of its text, and the windows of both."""

    record: SquadRecord
    context: TokenizedText
    windows: list[Window]


def cut_questions(artifact: Artifact, questions: Iterable[SquadRecord]) -> Iterator[CutQuestion]:
    """`questions` with the artifact's own reading defaults, in their order."""
    tokenizer = TextTokenizer.from_file(artifact.tokenizer_path)
    reading = artifact.manifest.reading
    settings = WindowSettings(reading.max_length, reading.overlap, reading.max_question)
    for record in questions:
        context = tokenizer.encode(record.context)
        yield CutQuestion(
            record, context, make_windows(tokenizer.encode(record.question), context, tokenizer.special, settings)
        )


def evaluate_questions(
    artifact: Artifact,
    engine: Engine,
    configuration: LengthConfiguration,
    questions: Sequence[SquadRecord],
    *,
    progress: bool = True,
) -> QuestionScores:
    """Answer `questions` with the artifact's own reading defaults; one score per question, in their order.

    Args:
        artifact: the model.
        engine: runs it.
        configuration: how many tokens to keep.
        questions: with known answers.
        progress: show a bar.
    """
    spans = SpanSettings(max_answer=artifact.manifest.reading.max_answer)
    predictions = {}
    bar = tqdm(questions, unit="question", mininterval=5.0, desc=configuration.id, disable=not progress)
    for record, context, windows in cut_questions(artifact, bar):
        logits = engine.run(ranked_windows(engine, windows, [configuration]), configuration).logits
        answers = best_answers(record.context, context, windows, logits, spans)
        predictions[record.id] = answers[0].text if answers else ""
    return score_questions(questions, predictions)
