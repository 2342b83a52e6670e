from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reading import SquadFormatError, load_predictions, load_squad, sample_questions

DATA = Path(__file__).parent.parent / "data"
EXCERPT = DATA / "squad-excerpt.json"


def document(**answer: Any) -> dict[str, Any]:
    answers = [{"text": "cat", "answer_start": 4} | answer]
    paragraph = {"context": "the cat, a cat", "qas": [{"id": "q1", "question": "who?", "answers": answers}]}
    return {"version": "1.1", "data": [{"title": "T", "paragraphs": [paragraph]}]}


def write(folder: Path, content: Any) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "questions", "articles"), [("squad-excerpt.json", 56, 6), ("squad-dev-excerpt.json.gz", 48, 5)]
)
def test_every_answer_of_the_excerpts_is_its_slice_at_every_place(name: str, questions: int, articles: int) -> None:
    dataset = load_squad(DATA / name)
    assert (len(dataset), len(dataset.articles)) == (questions, articles)
    records = list(dataset)
    assert len({record.id for record in records}) == questions
    assert any(len(answer.all_starts) > 1 for record in records for answer in record.answers)
    for record in records:
        for answer in record.answers:
            assert answer.start in answer.all_starts
            for start in answer.all_starts:
                assert record.context[start : start + len(answer.text)] == answer.text


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(gzip.compress(EXCERPT.read_bytes()))
    assert load_squad(path) == load_squad(EXCERPT)


def test_all_starts_are_kept_and_default_to_the_one_start(tmp_path: Path) -> None:
    (record,) = load_squad(write(tmp_path, document()))
    assert record.answers[0].all_starts == (4,)
    (record,) = load_squad(write(tmp_path, document(all_starts=[4, 11])))
    assert record.answers[0].all_starts == (4, 11)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "the document: must be an object"),
        ({}, "the document: lacks the key 'data'"),
        ({"data": {}}, "the document.data: must be a list"),
        ({"data": [7]}, r"data\[0\]: must be an object, found int"),
        ({"data": [{"title": "T"}]}, r"data\[0\]: lacks the key 'paragraphs'"),
        (document(answer_start=5), r"answers\[0\].answer_start: the context does not hold .* code point 5"),
        (document(answer_start=-3), "answer_start: the context does not hold"),
        (document(answer_start=True), "must be an integer, found True"),
        (document(answer_start=None), "must be an integer, found None"),
        (document(all_starts=[4, 12]), r"all_starts\[1\]: the context does not hold"),
        (document(text=""), r"answers\[0\]: has an empty text"),
        (document(text=3), "text: must be a string, found int"),
        (document(text="\ud800"), "lone surrogate"),
        ({"data": document()["data"] * 2}, r"data\[1\].paragraphs\[0\].qas\[0\]: the id 'q1' was used before"),
    ],
)
def test_bad_content_is_refused_with_file_and_place(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SquadFormatError, match=r"data\.json: .*" + message):
        load_squad(write(tmp_path, content))


def test_a_question_without_answers_is_refused(tmp_path: Path) -> None:
    content = document()
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = []
    with pytest.raises(SquadFormatError, match="has no answer"):
        load_squad(write(tmp_path, content))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"data": [', "not JSON at line 1 column"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (gzip.compress(b"{}")[:-6], "damaged gzip"),
        (b"\x1f\x8b\x00", "damaged gzip"),
        (b"[" * 200_000, "JSON nested too deeply"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(raw)
    with pytest.raises(SquadFormatError, match=r"broken\.json: " + message):
        load_squad(path)


def test_predictions_are_one_object_of_strings(tmp_path: Path) -> None:
    assert load_predictions(write(tmp_path, {"q1": "cat"})) == {"q1": "cat"}
    with pytest.raises(SquadFormatError, match="prediction 'q1' must be a string, found int"):
        load_predictions(write(tmp_path, {"q1": 1}))
    with pytest.raises(SquadFormatError, match="must be one JSON object"):
        load_predictions(write(tmp_path, []))


def test_a_sample_is_repeatable_nested_and_in_the_order_of_the_file() -> None:
    dataset = load_squad(EXCERPT)
    order = [record.id for record in dataset]
    small, large = ([record.id for record in sample_questions(dataset, limit, seed=3)] for limit in (10, 30))
    assert small == [record.id for record in sample_questions(dataset, 10, seed=3)]
    assert small != [record.id for record in sample_questions(dataset, 10, seed=4)]
    assert set(small) < set(large)
    assert large == sorted(large, key=order.index)


@pytest.mark.parametrize("limit", [6, 7, 20, 55])
def test_a_sample_holds_every_article_in_proportion(limit: int) -> None:
    dataset = load_squad(EXCERPT)
    sizes = Counter(record.title for record in dataset)
    drawn = Counter(record.title for record in sample_questions(dataset, limit, seed=0))
    assert drawn.total() == limit
    assert drawn.keys() == sizes.keys()
    assert all(abs(drawn[title] - limit * sizes[title] / len(dataset)) <= 1 for title in sizes)


def test_a_limit_beyond_the_file_gives_every_question() -> None:
    dataset = load_squad(EXCERPT)
    assert sample_questions(dataset, 1000, seed=0) == list(dataset)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        sample_questions(dataset, 0, seed=0)
