"""F1 of an artifact on questions, through an engine of the server's."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from model_store import Artifact, LengthConfiguration
from reading import (
    QuestionScores,
    SpanSettings,
    SquadRecord,
    TextTokenizer,
    WindowSettings,
    best_answers,
    make_windows,
    score_questions,
)
from server.engine.interface import Engine


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
    tokenizer = TextTokenizer.from_file(artifact.tokenizer_path)
    defaults = artifact.manifest.reading
    windows_of = WindowSettings(defaults.max_length, defaults.overlap, defaults.max_question)
    spans_of = SpanSettings(max_answer=defaults.max_answer)
    predictions = {}
    for record in tqdm(questions, unit="question", mininterval=5.0, desc=configuration.id, disable=not progress):
        context = tokenizer.encode(record.context)
        windows = make_windows(tokenizer.encode(record.question), context, tokenizer.special, windows_of)
        logits = engine.run(windows, configuration).logits
        answers = best_answers(record.context, context, windows, logits, spans_of)
        predictions[record.id] = answers[0].text if answers else ""
    return score_questions(questions, predictions)
