"""Questions cut into windows as an artifact wants them, and its F1 on them through an engine of the server's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue
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
from server.engine import create_engine
from server.engine.interface import Engine
from server.engine.skimming import ranked_windows
from server.engine.threads import available_threads


class CutQuestion(NamedTuple):
    """A question, the tokens of its text, and the windows of both."""

    record: SquadRecord
    context: TokenizedText
    windows: list[Window]


def cut_questions(artifact: Artifact, questions: Iterable[SquadRecord]) -> Iterator[CutQuestion]:
    """`questions` with the artifact's own reading defaults, in their order."""
    return map(_cutter(artifact), questions)


@contextmanager
def engines_running(artifact: Artifact, name: str, threads: int) -> Iterator[tuple[Engine, ...]]:
    """Engines of one thread each to answer questions side by side, closed at the end.

    So native answers 1.2 (`full`) to 1.3 times as many in a second on two cores as one engine with both, and openvino
    1.1 to 1.3 times (`benchmarks.streams`).  Each of them holds the model: memory grows with their number.

    Args:
        artifact: the model.
        name: of the engine.
        threads: so many engines; 0: as many as this process may use threads.

    Raises:
        EngineUnavailableError: no such engine here.
        ValueError: less than no threads.
    """
    if threads < 0:
        raise ValueError(f"threads must be at least 0, got {threads}")
    count = threads or available_threads()
    with ExitStack() as opened:
        yield tuple(opened.enter_context(closing(create_engine(name, artifact, threads=1))) for _ in range(count))


def evaluate_questions(
    artifact: Artifact,
    engines: Sequence[Engine],
    configuration: LengthConfiguration,
    questions: Sequence[SquadRecord],
    *,
    progress: bool = True,
) -> QuestionScores:
    """Answer `questions` with the artifact's own reading defaults; one score per question, in their order.

    Args:
        artifact: the model.
        engines: run it, side by side, each one question at a time.
        configuration: how many tokens to keep.
        questions: with known answers.
        progress: show a bar.

    Raises:
        ValueError: no engine.
    """
    if not engines:
        raise ValueError("somebody must answer: there is no engine")
    cut, spans = _cutter(artifact), SpanSettings(max_answer=artifact.manifest.reading.max_answer)
    free: SimpleQueue[Engine] = SimpleQueue()
    for engine in engines:
        free.put(engine)

    def answer(record: SquadRecord) -> str:
        _, context, windows = cut(record)
        engine = free.get()
        try:
            logits = engine.run(ranked_windows(engine, windows, [configuration]), configuration).logits
        finally:
            free.put(engine)
        answers = best_answers(record.context, context, windows, logits, spans)
        return answers[0].text if answers else ""

    pool = ThreadPoolExecutor(len(engines))
    try:
        texts = tqdm(
            pool.map(answer, questions),
            total=len(questions),
            unit="question",
            mininterval=5.0,
            desc=configuration.id,
            disable=not progress,
        )
        predictions = {record.id: text for record, text in zip(questions, texts, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)
    return score_questions(questions, predictions)


def _cutter(artifact: Artifact) -> Callable[[SquadRecord], CutQuestion]:
    """What cuts a question as `artifact` reads it; from any thread."""
    tokenizer = TextTokenizer.from_file(artifact.tokenizer_path)
    reading = artifact.manifest.reading
    settings = WindowSettings(reading.max_length, reading.overlap, reading.max_question)

    def cut(record: SquadRecord) -> CutQuestion:
        context = tokenizer.encode(record.context)
        windows = make_windows(tokenizer.encode(record.question), context, tokenizer.special, settings)
        return CutQuestion(record, context, windows)

    return cut
