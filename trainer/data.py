"""Training data: where it comes from, and which whole articles are held out of training."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from reading import Article, Paragraph, Question, ReferenceAnswer, SquadDataset, load_squad
from trainer.features import LabelledQuestion

HELD_OUT_SHARE = 0.05
SPLIT_SEED = 0


def load_data(name_or_path: str, split: str = "train") -> SquadDataset:
    """A local SQuAD-format file (plain or .gz), or a Hugging Face ``datasets`` name such as ``rajpurkar/squad``.

    Raises:
        FileNotFoundError: neither a file nor a data set that the hub gives.
        SquadFormatError: a file of another format.
    """
    if Path(name_or_path).is_file():
        return load_squad(Path(name_or_path))
    from datasets.load import load_dataset

    try:
        rows = load_dataset(name_or_path, split=split)
    except Exception as error:
        raise FileNotFoundError(f"{name_or_path!r} is no file, and datasets gave: {error}") from error
    return from_rows(rows)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> SquadDataset:
    """A data set from the hub's rows ``{id, title, context, question, answers: {text, answer_start}}``.

    Rows of one title, and of one context in it, must follow each other, as they do in SQuAD.  Rows without
    an answer (SQuAD 2.0) are left out.
    """
    articles = []
    answered = (row for row in rows if row["answers"]["text"])
    for title, of_title in groupby(answered, key=lambda row: row["title"]):
        paragraphs = []
        for context, of_context in groupby(of_title, key=lambda row: row["context"]):
            questions = tuple(Question(row["id"], row["question"], _references(row["answers"])) for row in of_context)
            paragraphs.append(Paragraph(context, questions))
        articles.append(Article(title, tuple(paragraphs)))
    return SquadDataset("1.1", tuple(articles))


def _references(answers: Mapping[str, Any]) -> tuple[ReferenceAnswer, ...]:
    pairs = zip(answers["text"], answers["answer_start"], strict=True)
    return tuple(ReferenceAnswer(text, start, (start,)) for text, start in pairs)


def hold_out(
    dataset: SquadDataset, share: float = HELD_OUT_SHARE, seed: int = SPLIT_SEED
) -> tuple[SquadDataset, SquadDataset]:
    """Split into (training, held-out) by a seeded draw of ``ceil(share * articles)`` whole articles.

    Raises:
        ValueError: fewer than two articles, or the share not in (0, 1).
    """
    articles = dataset.articles
    if len(articles) < 2 or not 0.0 < share < 1.0:
        raise ValueError(f"cannot hold out a share of {share} of {len(articles)} articles")
    count = min(len(articles) - 1, int(np.ceil(share * len(articles))))
    chosen = set(np.random.default_rng(seed).permutation(len(articles))[:count].tolist())
    kept = tuple(article for place, article in enumerate(articles) if place not in chosen)
    held = tuple(article for place, article in enumerate(articles) if place in chosen)
    return SquadDataset(dataset.version, kept), SquadDataset(dataset.version, held)


def labelled_questions(dataset: SquadDataset) -> Iterable[LabelledQuestion]:
    """Each question with the spans of its first answer, at every place where the file says that it stands."""
    for record in dataset:
        first = record.answers[0]
        spans = tuple((start, start + len(first.text)) for start in first.all_starts)
        yield LabelledQuestion(record.id, record.question, record.context, spans)


def save_squad(dataset: SquadDataset, path: Path) -> None:
    """Write a gzipped SQuAD-format file; equal data sets give equal bytes."""
    articles = [
        {
            "title": article.title,
            "paragraphs": [
                {"context": paragraph.context, "qas": [_question(question) for question in paragraph.questions]}
                for paragraph in article.paragraphs
            ],
        }
        for article in dataset.articles
    ]
    text = json.dumps({"version": dataset.version, "data": articles}, ensure_ascii=False)
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def _question(question: Question) -> dict[str, Any]:
    answers = [
        {"text": answer.text, "answer_start": answer.start, "all_starts": list(answer.all_starts)}
        for answer in question.answers
    ]
    return {"id": question.id, "question": question.text, "answers": answers}
