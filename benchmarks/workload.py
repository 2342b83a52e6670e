"""Questions about texts of mixed lengths, made of real paragraphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reading import SquadDataset

EXCERPT = Path(__file__).resolve().parents[1] / "tests" / "data" / "squad-dev-excerpt.json.gz"
"""What is asked where no file is given."""

SHORTEST_TARGET = 500
"""Least length, in code points, that a concatenated context is given to fill."""

_SINGLE_SHARE = 0.5
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        question: a question of the file.
        context: its paragraph, alone or among its neighbours.
    """

    question: str
    context: str


def mixed_lengths(dataset: SquadDataset, count: int, seed: int, longest: int = 20_000) -> Iterator[Asked]:
    """`count` questions, drawn with replacement, each with a context of its own length.

    Half of them are asked about their paragraph as it is.  For the others a length is drawn, log-uniformly
    from `SHORTEST_TARGET` to `longest` code points, and the paragraph's neighbours in its article are joined to
    it (those after it, then those before it) as long as they fit.  An article that is too short gives what it has.

    Raises:
        ValueError: a file without questions, or a `longest` below `SHORTEST_TARGET`.
    """
    if longest < SHORTEST_TARGET:
        raise ValueError(f"the longest context must have at least {SHORTEST_TARGET} code points, not {longest}")
    places = [
        (article, place, question.text)
        for article in dataset.articles
        for place, paragraph in enumerate(article.paragraphs)
        for question in paragraph.questions
    ]
    if not places:
        raise ValueError("there are no questions to ask")
    generator = np.random.default_rng(seed)
    bounds = np.log((SHORTEST_TARGET, longest))
    for drawn in generator.integers(len(places), size=count):
        article, place, question = places[drawn]
        is_single = generator.random() < _SINGLE_SHARE
        target = int(np.exp(generator.uniform(*bounds)))
        texts = [paragraph.context for paragraph in article.paragraphs]
        yield Asked(question, texts[place] if is_single else joined(texts, place, target))


def joined(paragraphs: Sequence[str], place: int, target: int) -> str:
    """Neighbouring paragraphs, in order, that hold paragraph `place` and have at most `target` code points.

    A paragraph that is itself longer stays whole.
    """
    first = last = place
    length = len(paragraphs[place])
    while last + 1 < len(paragraphs) and length + len(_BETWEEN) + len(paragraphs[last + 1]) <= target:
        last += 1
        length += len(_BETWEEN) + len(paragraphs[last])
    while first and length + len(_BETWEEN) + len(paragraphs[first - 1]) <= target:
        first -= 1
        length += len(_BETWEEN) + len(paragraphs[first])
    return _BETWEEN.join(paragraphs[first : last + 1])
