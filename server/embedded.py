"""A model in the calling process, without event loop, queue and HTTP: for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from model_store.length_config import LengthConfiguration
from model_store.pareto import macs_at
from reading.spans import Answer, best_answers
from reading.tokens import TokenizedText
from reading.windows import Window, make_windows
from server.answering import ReadingSettings
from server.engine.interface import WindowTokens
from server.engine.skimming import entering_tokens, ranked_windows
from server.model import DEFAULT_OPTIONS, LoadedModel, ReadingOptions, load_model
from server.settings import Settings


class EmbeddedModel:
    """Answers one question after the other; a context manager that frees the model."""

    def __init__(self, model: LoadedModel, configuration: LengthConfiguration) -> None:
        self._model = model
        self.configuration = configuration

    @classmethod
    def load(cls, settings: Settings, configuration: str = "full", *, warm_up: bool = False) -> EmbeddedModel:
        """Load the model that `settings` name.

        Args:
            settings: model, store, engine, precision and threads count.
            configuration: id of the length configuration.
            warm_up: meet every length bucket of that configuration first, for measurements.

        Raises:
            ModelLoadError: it cannot be loaded, or has no such length configuration.
        """
        model = load_model(settings, warm_up=False)
        found = model.configuration(configuration)
        if warm_up:
            model.engine.warm_up([found])
        return cls(model, found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.engine.close()

    @property
    def reference(self) -> str:
        """``name@version``."""
        return self._model.reference

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        return self._model.engine.info.name

    def answer(self, question: str, context: str, options: ReadingOptions = DEFAULT_OPTIONS) -> list[Answer]:
        """The best answers, best first.

        Raises:
            InvalidReadingError: options that contradict each other or the model.
            ValueError: a text with a lone surrogate.
        """
        settings = self._model.reading_settings(options)
        tokens, windows = self._cut(question, context, settings)
        engine, kernels = self._model.engine, self._model.tokenizer.kernels
        result = engine.run(self._ranked(windows), self.configuration)
        return best_answers(context, tokens, windows, result.logits, settings.spans, kernels=kernels)

    def macs(self, question: str, context: str) -> float:
        """Multiply-accumulate operations of what `answer` runs; the same errors."""
        _, windows = self._cut(question, context, self._model.reading_settings())
        return sum(
            macs_at(
                self._model.architecture,
                len(window.token_ids),
                self.configuration,
                entering_tokens(window, self.configuration),
            )
            for window in self._ranked(windows)
        )

    def _ranked(self, windows: Sequence[Window]) -> Sequence[WindowTokens]:
        return ranked_windows(self._model.engine, windows, [self.configuration])

    def _cut(self, question: str, context: str, settings: ReadingSettings) -> tuple[TokenizedText, list[Window]]:
        tokenizer = self._model.tokenizer
        tokens = tokenizer.encode(context)
        return tokens, make_windows(tokenizer.encode(question), tokens, tokenizer.special, settings.windows)
