from __future__ import annotations

import pytest

from benchmarks.workload import SHORTEST_TARGET, joined, mixed_lengths
from reading import Article, Paragraph, Question, ReferenceAnswer, SquadDataset

PARAGRAPHS = 40
LENGTH = 600


def paragraph(article: int, place: int) -> Paragraph:
    start = f"article {article} paragraph {place} "
    text = start + "x" * (LENGTH - len(start))
    question = Question(f"{article}-{place}", f"What is in {article}, {place}?", (ReferenceAnswer("x", 599, (599,)),))
    return Paragraph(text, (question,))


@pytest.fixture
def dataset() -> SquadDataset:
    articles = [
        Article(str(article), tuple(paragraph(article, place) for place in range(PARAGRAPHS))) for article in range(3)
    ]
    return SquadDataset("1.1", tuple(articles))


def test_the_same_seed_asks_the_same(dataset: SquadDataset) -> None:
    assert list(mixed_lengths(dataset, 50, 7)) == list(mixed_lengths(dataset, 50, 7))
    assert list(mixed_lengths(dataset, 50, 7)) != list(mixed_lengths(dataset, 50, 8))


def test_lengths_run_from_one_paragraph_to_the_longest(dataset: SquadDataset) -> None:
    lengths = sorted(len(each.context) for each in mixed_lengths(dataset, 400, 0, longest=20_000))
    assert lengths[0] == LENGTH
    assert 15_000 < lengths[-1] <= 20_000
    assert len(set(lengths)) > 20
    assert 0.4 < lengths.count(LENGTH) / len(lengths) < 0.7


def test_every_context_holds_the_paragraph_asked_about_and_no_other_article(dataset: SquadDataset) -> None:
    for each in mixed_lengths(dataset, 100, 1):
        article, place = each.question.removeprefix("What is in ").removesuffix("?").split(", ")
        assert f"article {article} paragraph {place} " in each.context
        assert each.context.count("article") == each.context.count(f"article {article} ")


def test_neighbours_are_joined_in_order_as_long_as_they_fit() -> None:
    texts = ["aaaa", "bbbb", "cccc", "dddd"]
    assert joined(texts, 1, 3) == "bbbb"
    assert joined(texts, 1, 10) == "bbbb\n\ncccc"
    assert joined(texts, 3, 10) == "cccc\n\ndddd"
    assert joined(texts, 2, 1000) == "aaaa\n\nbbbb\n\ncccc\n\ndddd"


def test_what_cannot_be_drawn_is_refused(dataset: SquadDataset) -> None:
    with pytest.raises(ValueError, match="no questions"):
        next(mixed_lengths(SquadDataset("1.1", ()), 1, 0))
    with pytest.raises(ValueError, match="longest"):
        next(mixed_lengths(dataset, 1, 0, longest=SHORTEST_TARGET - 1))
