"""SQuAD-format files: reading, checking, sampling.

The format is that of Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text":
``{"version", "data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text",
"answer_start"}]}]}]}]}``, offsets in code points.  An answer may carry the extra key ``all_starts``: every
place where its text occurs, for files in which the place that is meant is not known.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_GZIP_MAGIC = b"\x1f\x8b"


class SquadFormatError(ValueError):
    """A file that is no SQuAD-format file; the message names the file and the place in it."""


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """One reference answer.

    Attributes:
        text: slice of the context.
        start: its first code point in the context.
        all_starts: every known place of the text, ascending; ``(start,)`` where the file names no others.
    """

    text: str
    start: int
    all_starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One question with at least one reference answer."""

    id: str
    text: str
    answers: tuple[ReferenceAnswer, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A context and the questions about it."""

    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """Paragraphs under one title."""

    title: str
    paragraphs: tuple[Paragraph, ...]


@dataclass(frozen=True, slots=True)
class SquadRecord:
    """One question together with its context: what an evaluation walks over."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[ReferenceAnswer, ...]


@dataclass(frozen=True, slots=True)
class SquadDataset:
    """A whole file.  Iterating yields `SquadRecord`, one per question, in the order of the file."""

    version: str
    articles: tuple[Article, ...]

    def __iter__(self) -> Iterator[SquadRecord]:
        for article in self.articles:
            for paragraph in article.paragraphs:
                for question in paragraph.questions:
                    yield SquadRecord(question.id, article.title, paragraph.context, question.text, question.answers)

    def __len__(self) -> int:
        """Number of questions."""
        return sum(len(paragraph.questions) for article in self.articles for paragraph in article.paragraphs)


def load_squad(path: Path) -> SquadDataset:
    """Read and check a SQuAD 1.1 file, plain or gzipped (told apart by content, not by name).

    Raises:
        OSError: the file cannot be opened.
        SquadFormatError: the content is not SQuAD 1.1, with file and place.
    """
    return _Reader(path).dataset(load_json(path))


def load_predictions(path: Path) -> dict[str, str]:
    """Read a file of predictions ``{question id: answer text}``, plain or gzipped.

    Raises:
        OSError: the file cannot be opened.
        SquadFormatError: the content is no such file.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise SquadFormatError(f"{path}: predictions must be one JSON object {{question id: answer text}}")
    for key, text in content.items():
        if not isinstance(text, str):
            raise SquadFormatError(f"{path}: prediction {key!r} must be a string, found {type(text).__name__}")
    return content


def load_json(path: Path) -> Any:
    """One JSON document from a plain or gzipped UTF-8 file.

    Raises:
        OSError: the file cannot be opened.
        SquadFormatError: damaged gzip, not UTF-8, not JSON, or nested too deeply.
    """
    raw = Path(path).read_bytes()
    try:
        if raw.startswith(_GZIP_MAGIC):
            raw = gzip.decompress(raw)
        return json.loads(raw.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error) as error:
        raise SquadFormatError(f"{path}: damaged gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise SquadFormatError(f"{path}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise SquadFormatError(f"{path}: not JSON at line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise SquadFormatError(f"{path}: JSON nested too deeply") from error


def sample_questions(dataset: SquadDataset, limit: int, seed: int) -> list[SquadRecord]:
    """A seeded sample over all articles, in the order of the file.

    Every article gives at least one question where `limit` allows it; beyond that, articles are represented
    in proportion to their size (Huntington-Hill: the next question comes from the article with the greatest
    size / sqrt(taken x (taken + 1))), so that the sample estimates the score of the whole file.  Samples of
    one seed are nested: a greater limit only adds questions.  A limit beyond the file gives all questions.

    Raises:
        ValueError: `limit` is less than 1.
    """
    if limit < 1:
        raise ValueError("limit must be at least 1")
    generator = np.random.default_rng(seed)
    priorities = []
    for article in dataset.articles:
        size = sum(len(paragraph.questions) for paragraph in article.paragraphs)
        taken = generator.permutation(size).astype(np.float64)
        with np.errstate(divide="ignore"):
            priorities.append(size / np.sqrt(taken * (taken + 1)))
    priority = np.concatenate(priorities) if priorities else np.empty(0)
    ties = generator.permutation(len(priority))
    chosen = set(np.lexsort((ties, -priority))[:limit].tolist())
    return [record for place, record in enumerate(dataset) if place in chosen]


class _Reader:
    """Turns parsed JSON into the dataclasses; every error names the file and the place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: set[str] = set()

    def dataset(self, content: Any) -> SquadDataset:
        if not isinstance(content, dict):
            raise self._error("the document", "must be an object with the key 'data'")
        articles = self._list(content, "data", "the document")
        return SquadDataset(
            version=str(content.get("version", "")),
            articles=tuple(self._article(item, f"data[{place}]") for place, item in enumerate(articles)),
        )

    def _article(self, item: Any, place: str) -> Article:
        return Article(
            title=self._string(item, "title", place),
            paragraphs=tuple(
                self._paragraph(paragraph, f"{place}.paragraphs[{index}]")
                for index, paragraph in enumerate(self._list(item, "paragraphs", place))
            ),
        )

    def _paragraph(self, item: Any, place: str) -> Paragraph:
        context = self._string(item, "context", place)
        return Paragraph(
            context=context,
            questions=tuple(
                self._question(question, context, f"{place}.qas[{index}]")
                for index, question in enumerate(self._list(item, "qas", place))
            ),
        )

    def _question(self, item: Any, context: str, place: str) -> Question:
        key = self._string(item, "id", place)
        if key in self._ids:
            raise self._error(place, f"the id {key!r} was used before")
        self._ids.add(key)
        answers = self._list(item, "answers", place)
        if not answers:
            raise self._error(place, "has no answer; SQuAD 1.1 questions have one or more (2.0 is not supported)")
        return Question(
            id=key,
            text=self._string(item, "question", place),
            answers=tuple(
                self._answer(answer, context, f"{place}.answers[{index}]") for index, answer in enumerate(answers)
            ),
        )

    def _answer(self, item: Any, context: str, place: str) -> ReferenceAnswer:
        text = self._string(item, "text", place)
        if not text:
            raise self._error(place, "has an empty text")
        start = self._start(item.get("answer_start"), text, context, f"{place}.answer_start")
        if "all_starts" not in item:
            return ReferenceAnswer(text, start, (start,))
        starts = [
            self._start(value, text, context, f"{place}.all_starts[{index}]")
            for index, value in enumerate(self._list(item, "all_starts", place))
        ]
        return ReferenceAnswer(text, start, tuple(sorted({start, *starts})))

    def _start(self, value: Any, text: str, context: str, place: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._error(place, f"must be an integer, found {value!r:.40}")
        if value < 0 or not context.startswith(text, value):
            raise self._error(place, f"the context does not hold the answer text at code point {value}")
        return value

    def _string(self, item: Any, key: str, place: str) -> str:
        value = self._get(item, key, place)
        if not isinstance(value, str):
            raise self._error(f"{place}.{key}", f"must be a string, found {type(value).__name__}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self._error(f"{place}.{key}", f"holds a lone surrogate at code point {error.start}") from error
        return value

    def _list(self, item: Any, key: str, place: str) -> list[Any]:
        value = self._get(item, key, place)
        if not isinstance(value, list):
            raise self._error(f"{place}.{key}", f"must be a list, found {type(value).__name__}")
        return value

    def _get(self, item: Any, key: str, place: str) -> Any:
        if not isinstance(item, dict):
            raise self._error(place, f"must be an object, found {type(item).__name__}")
        if key not in item:
            raise self._error(place, f"lacks the key {key!r}")
        return item[key]

    def _error(self, place: str, message: str) -> SquadFormatError:
        return SquadFormatError(f"{self._path}: {place}: {message}")
