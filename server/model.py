"""The loaded model: artifact, tokenizer, engine, and the reading settings that fit it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration
from model_store.pareto import ParetoTable
from reading.kernels import ReadingKernels
from reading.spans import SpanSettings
from reading.tokens import TextTokenizer
from reading.windows import WindowSettings
from server.answering import ReadingSettings
from server.choosing import NAMED, choose_engine
from server.engine.interface import Engine, EngineUnavailableError
from server.engine.native import usable_library
from server.errors import InvalidReadingError, ModelLoadError

if TYPE_CHECKING:
    from server.settings import Settings

logger = logging.getLogger("leeway")

SHORTEST_WINDOW = 16


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What a caller may say about reading; None takes the model's default.

    Attributes:
        top_k: answers per question at most.
        max_answer: tokens of an answer at most.
        no_answer_threshold: see `reading.spans.SpanSettings`; None never gives the empty answer.
        max_length: tokens of a window at most.
        overlap: context tokens shared by neighbouring windows.
        max_question: tokens kept of a question.
        align_to_words: widen answers to whole words.
    """

    top_k: int = 1
    max_answer: int | None = None
    no_answer_threshold: float | None = None
    max_length: int | None = None
    overlap: int | None = None
    max_question: int | None = None
    align_to_words: bool = False


DEFAULT_OPTIONS = ReadingOptions()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        name: of the model.
        version: of the artifact.
        digest: of the artifact.
        engine: holds the weights.
        tokenizer: of the model.
        architecture: of the network.
        table: its length configurations, what they cost and how well they answer.
        window_defaults: how texts are cut unless the caller says otherwise.
        max_answer: tokens of an answer unless the caller says otherwise.
        engine_reason: why it is this engine, for people.
    """

    name: str
    version: str
    digest: str
    engine: Engine
    tokenizer: TextTokenizer
    architecture: Architecture
    table: ParetoTable
    window_defaults: WindowSettings
    max_answer: int
    engine_reason: str = NAMED

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def configurations(self) -> tuple[LengthConfiguration, ...]:
        """Every length configuration of the Pareto table, cheapest first."""
        return tuple(point.configuration for point in self.table.points)

    @property
    def positions(self) -> int:
        """Tokens of the longest possible window."""
        return self.architecture.positions

    def configuration(self, wanted: str) -> LengthConfiguration:
        """The length configuration of that id.

        Raises:
            ModelLoadError: the model has none of that id; the message lists those that it has.
        """
        for configuration in self.configurations:
            if configuration.id == wanted:
                return configuration
        known = ", ".join(configuration.id for configuration in self.configurations)
        raise ModelLoadError(f"{self.reference} has no length configuration {wanted!r}; it has {known}")

    def reading_settings(self, options: ReadingOptions = DEFAULT_OPTIONS) -> ReadingSettings:
        """Settings for `options`.

        A shorter window than the default shrinks the defaults of question and overlap in proportion.

        Raises:
            InvalidReadingError: lengths that contradict each other or the model's positions.
        """
        spans = SpanSettings(
            max_answer=options.max_answer if options.max_answer is not None else self.max_answer,
            top_k=options.top_k,
            no_answer_threshold=options.no_answer_threshold,
            align_to_words=options.align_to_words,
        )
        return ReadingSettings(self._window_settings(options), spans)

    def _window_settings(self, options: ReadingOptions) -> WindowSettings:
        defaults = self.window_defaults
        length = options.max_length if options.max_length is not None else defaults.max_length
        if not SHORTEST_WINDOW <= length <= self.positions:
            raise InvalidReadingError(
                f"a window has {SHORTEST_WINDOW} to {self.positions} tokens, not {length}", "max_length"
            )
        question = options.max_question
        if question is None:
            question = min(defaults.max_question, length // 4)
        overlap = options.overlap
        if overlap is None:
            overlap = min(defaults.overlap, max(0, length - question - 3) // 2)
        try:
            return WindowSettings(length, overlap, question)
        except ValueError as error:
            given = {"max_length": options.max_length, "max_question": options.max_question, "overlap": options.overlap}
            field = next((name for name, value in reversed(given.items()) if value is not None), "max_length")
            raise InvalidReadingError(str(error), field) from error


def load_model(settings: Settings, *, warm_up: bool = True) -> LoadedModel:
    """Resolve, check, load and warm up the model that `settings` name.  Takes seconds: not on the event loop.

    Raises:
        ModelLoadError: whatever stands in the way, in one line.
    """
    from model_store.errors import ModelStoreError
    from model_store.store import ModelStore

    try:
        artifact = ModelStore(settings.store).load(settings.model)
        tokenizer = TextTokenizer.from_file(artifact.tokenizer_path, reading_kernels())
        _check_vocabulary(tokenizer, artifact.manifest.architecture.vocabulary)
        choice = choose_engine(settings, artifact)
    except (ModelStoreError, EngineUnavailableError, OSError, ValueError, RuntimeError) as error:
        raise ModelLoadError(f"the model {settings.model!r} cannot be loaded: {error}") from error
    manifest = artifact.manifest
    model = LoadedModel(
        name=manifest.name,
        version=str(manifest.version),
        digest=artifact.digest,
        engine=choice.engine,
        tokenizer=tokenizer,
        architecture=manifest.architecture,
        table=artifact.table,
        window_defaults=WindowSettings(
            manifest.reading.max_length, manifest.reading.overlap, manifest.reading.max_question
        ),
        max_answer=manifest.reading.max_answer,
        engine_reason=choice.reason,
    )
    logger.info("engine %s: %s", choice.engine.info.name, choice.reason)
    if warm_up:
        _warm_up(model)
    return model


def reading_kernels() -> ReadingKernels | None:
    """What texts are split and answers read off with, whatever the engine; None where this machine cannot run it."""
    library = usable_library()
    return None if library is None else ReadingKernels(library)


def _check_vocabulary(tokenizer: TextTokenizer, vocabulary: int) -> None:
    if tokenizer.vocabulary_size > vocabulary:
        raise ValueError(f"its tokenizer has {tokenizer.vocabulary_size} word pieces, its weights only {vocabulary}")


def _warm_up(model: LoadedModel) -> None:
    try:
        model.engine.warm_up(model.configurations)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ModelLoadError(f"{model.reference} cannot be warmed up: {error}") from error
