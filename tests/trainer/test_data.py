from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reading import SquadFormatError
from tests.trainer.helpers import EXCERPT, excerpt
from trainer.data import from_rows, hold_out, labelled_questions, load_data, save_squad


def test_whole_articles_are_held_out_and_nothing_leaks() -> None:
    training, held_out = hold_out(excerpt(), 0.3, seed=0)
    assert len(held_out.articles) == 2  # ceil(0.3 * 6)
    titles = [{article.title for article in part.articles} for part in (training, held_out)]
    assert not titles[0] & titles[1]
    assert titles[0] | titles[1] == {article.title for article in excerpt().articles}
    assert not {record.context for record in training} & {record.context for record in held_out}
    ids = [record.id for part in (training, held_out) for record in part]
    assert sorted(ids) == sorted(record.id for record in excerpt())


def test_the_draw_of_articles_is_a_function_of_the_seed() -> None:
    assert hold_out(excerpt(), 0.3, seed=5) == hold_out(excerpt(), 0.3, seed=5)
    draws = {tuple(article.title for article in hold_out(excerpt(), 0.3, seed)[1].articles) for seed in range(8)}
    assert len(draws) > 1


def test_something_is_left_to_train_on_whatever_the_share() -> None:
    training, held_out = hold_out(excerpt(), 0.999, seed=0)
    assert (len(training.articles), len(held_out.articles)) == (1, 5)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="cannot hold out"):
        hold_out(excerpt(), share)


def row(key: str, title: str, context: str, *answers: tuple[str, int]) -> dict[str, Any]:
    """One row as the hub gives it."""
    found = {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]}
    return {"id": key, "title": title, "context": context, "question": f"{key}?", "answers": found}


def test_rows_of_the_hub_become_articles_paragraphs_and_questions() -> None:
    rows = [
        row("1", "A", "one two", ("one", 0)),
        row("2", "A", "one two", ("two", 4), ("one two", 0)),
        row("3", "A", "three", ("three", 0)),
        row("4", "A", "three"),  # SQuAD 2.0: no answer
        row("5", "B", "four", ("four", 0)),
    ]
    dataset = from_rows(rows)
    assert [(article.title, len(article.paragraphs)) for article in dataset.articles] == [("A", 2), ("B", 1)]
    assert [record.id for record in dataset] == ["1", "2", "3", "5"]
    second = list(dataset)[1]
    assert [(answer.text, answer.all_starts) for answer in second.answers] == [("two", (4,)), ("one two", (0,))]


def test_rows_of_a_squad_file_give_the_data_set_of_that_file() -> None:
    rows = [
        row(record.id, record.title, record.context, *((answer.text, answer.start) for answer in record.answers))
        for record in excerpt()
    ]
    assert [(r.id, r.title, r.context) for r in from_rows(rows)] == [(r.id, r.title, r.context) for r in excerpt()]


def test_a_question_is_labelled_with_every_place_of_its_first_answer() -> None:
    labelled = list(labelled_questions(excerpt()))
    first = labelled[0]
    assert first.spans == ((29, 32), (145, 148))
    for item, record in zip(labelled, excerpt(), strict=True):
        assert {item.context[start:end] for start, end in item.spans} == {record.answers[0].text}


def test_a_data_set_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    save_squad(excerpt(), tmp_path / "a.json.gz")
    save_squad(excerpt(), tmp_path / "b.json.gz")
    assert load_data(str(tmp_path / "a.json.gz")) == excerpt()
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_a_local_file_is_read_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load.load_dataset", lambda *args, **kwargs: pytest.fail("asked the hub"))
    assert load_data(str(EXCERPT)) == excerpt()


def test_what_is_neither_a_file_nor_known_to_the_hub_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, split: str) -> None:
        raise ConnectionError(f"cannot reach the hub for {name}")

    monkeypatch.setattr("datasets.load.load_dataset", offline)
    with pytest.raises(FileNotFoundError, match=r"'no/such\.json' is no file, and datasets gave: cannot reach"):
        load_data("no/such.json")


def test_a_name_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hub(name: str, split: str) -> list[dict[str, Any]]:
        asked.append((name, split))
        return [row("1", "A", "one", ("one", 0))]

    monkeypatch.setattr("datasets.load.load_dataset", hub)
    assert len(load_data("rajpurkar/squad")) == 1
    assert asked == [("rajpurkar/squad", "train")]


def test_a_file_that_is_no_squad_file_is_a_format_error(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SquadFormatError, match=r"bad\.json"):
        load_data(str(tmp_path / "bad.json"))
