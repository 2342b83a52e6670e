"""``POST /qa`` and ``/qa/batch``: forms, answers, headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.server.fixtures import CONTEXT, QUESTION, fake_model, serving

OWN = {"question": QUESTION, "context": CONTEXT}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


def test_an_answer_is_a_slice_of_the_context(client: TestClient) -> None:
    body = client.post("/qa", json=OWN).json()
    (answer,) = body["answers"]
    assert answer["text"] == CONTEXT[answer["start"] : answer["end"]] != ""
    assert 0 < answer["score"] <= 1
    assert body["model"] == {"name": "tiny", "version": "3"}
    assert body["length_config"] == "full"
    assert body["windows"] == 1


def test_the_same_question_has_the_same_answer(client: TestClient) -> None:
    assert client.post("/qa", json=OWN).json() == client.post("/qa", json=OWN).json()


def test_top_k_answers_come_best_first(client: TestClient) -> None:
    scores = [answer["score"] for answer in client.post("/qa", json={**OWN, "top_k": 5}).json()["answers"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_an_answer_has_at_most_max_answer_tokens(client: TestClient) -> None:
    answers = client.post("/qa", json={**OWN, "top_k": 20, "max_answer_tokens": 1}).json()["answers"]
    assert {len(answer["text"].split()) for answer in answers} == {1}


def test_the_empty_answer_comes_first_below_the_threshold(client: TestClient) -> None:
    first, second = client.post("/qa", json={**OWN, "top_k": 2, "no_answer_threshold": 1.0}).json()["answers"]
    assert (first["text"], first["start"], first["end"]) == ("", 0, 0)
    assert second["text"]


def test_offsets_count_code_points_or_utf16_units(client: TestClient) -> None:
    context = "\U0001f600 \U0001f600 Ada Lovelace"
    asked = {"question": "Who?", "context": context, "top_k": 50}
    points = client.post("/qa", json=asked).json()["answers"]
    units = client.post("/qa", json={**asked, "offsets": "utf16"}).json()["answers"]
    raw = context.encode("utf-16-le")
    for point, unit in zip(points, units, strict=True):
        assert context[point["start"] : point["end"]] == point["text"] == unit["text"]
        assert raw[2 * unit["start"] : 2 * unit["end"]].decode("utf-16-le") == unit["text"]
    assert any(point["start"] != unit["start"] for point, unit in zip(points, units, strict=True))


def test_a_long_context_is_read_in_windows_to_its_end(client: TestClient) -> None:
    context = "word " * 2_000 + "Ada Lovelace"
    body = client.post("/qa", json={"question": "Who?", "context": context, "top_k": 50}).json()
    assert body["windows"] > 30
    assert any(answer["end"] > len(context) - 20 for answer in body["answers"])


def test_a_context_of_100_kilobytes_is_answered(client: TestClient) -> None:
    context = ("Ada Lovelace wrote the first program in London. " * 2_100)[:100_000]
    assert client.post("/qa", json={"question": "Who?", "context": context}).status_code == 200


def test_a_context_without_any_token_has_no_answer(client: TestClient) -> None:
    assert client.post("/qa", json={"question": "Who?", "context": "\u0000\u0001"}).json()["answers"] == []


def test_the_hugging_face_form_is_answered_with_its_list(client: TestClient) -> None:
    task = {"inputs": OWN, "parameters": {"top_k": 2, "max_answer_len": 3, "align_to_words": True}}
    body = client.post("/qa", json=task).json()
    assert [set(answer) for answer in body] == [{"answer", "score", "start", "end"}] * 2
    assert all(CONTEXT[answer["start"] : answer["end"]] == answer["answer"] for answer in body)


def test_the_hugging_face_form_takes_null_for_not_given(client: TestClient) -> None:
    task = {"inputs": OWN, "parameters": {"top_k": None, "doc_stride": None, "handle_impossible_answer": None}}
    assert len(client.post("/qa", json=task).json()) == 1


def test_the_hugging_face_form_cuts_windows_as_told(client: TestClient) -> None:
    asked = {"inputs": {"question": "Who?", "context": "word " * 200}, "parameters": {"max_seq_len": 24}}
    assert client.post("/qa", json=asked).status_code == 200
    asked["parameters"]["doc_stride"] = 23  # type: ignore[index]
    refused = client.post("/qa", json=asked)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "parameters.doc_stride"


def test_handle_impossible_answer_is_a_threshold_of_one_half(client: TestClient) -> None:
    task = {"inputs": OWN, "parameters": {"top_k": 50, "handle_impossible_answer": True}}
    own = client.post("/qa", json={**OWN, "top_k": 50, "no_answer_threshold": 0.5}).json()["answers"]
    assert [answer["answer"] for answer in client.post("/qa", json=task).json()] == [each["text"] for each in own]


def test_a_batch_has_one_list_of_answers_per_item(client: TestClient) -> None:
    other = {"question": "Where?", "context": "In London, the first word."}
    body = client.post("/qa/batch", json={"items": [OWN, other, OWN], "top_k": 2}).json()
    alone = [client.post("/qa", json={**item, "top_k": 2}).json()["answers"] for item in (OWN, other, OWN)]
    assert body["answers"] == alone
    assert body["windows"] == 3


def test_a_batch_names_the_item_at_fault(client: TestClient) -> None:
    refused = client.post("/qa/batch", json={"items": [OWN, {"question": "Who?", "context": " "}]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "items.1.context"


def test_headers_say_what_was_done(client: TestClient) -> None:
    response = client.post("/qa", json=OWN, headers={"X-Request-ID": "abc-1", "X-Latency-Budget-ms": "60000.5"})
    assert response.headers["X-Request-ID"] == "abc-1"
    assert response.headers["X-Length-Config"] == "full"
    assert response.headers["X-Latency-Budget-ms"] == "60000.5"
    assert response.headers["X-Latency-Budget-Met"] == "true"
    stages = [part.split(";")[0] for part in response.headers["Server-Timing"].split(", ")]
    assert stages == ["queue", "tokenize", "infer", "post", "total"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 200, "<script>", '"'])
def test_a_request_id_that_is_not_sane_is_replaced(client: TestClient, given: str) -> None:
    made = client.post("/qa", json=OWN, headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert made != given
    assert len(made) == 32


def test_windows_reach_the_engine_in_slices() -> None:
    model = fake_model()
    with serving(model, slice_ms=0.001) as client:
        windows = client.post("/qa", json={"question": "Who?", "context": "word " * 500}).json()["windows"]
    assert model.engine.windows_run == windows  # type: ignore[attr-defined]
    assert model.engine.calls == windows  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/qa", OWN), ("/qa", {"question": QUESTION}), ("/qa", []), ("/qa/batch", {"items": [OWN]}), ("/qa/batch", {})],
)
def test_the_routes_in_the_docs_answer_as_the_short_way_does(path: str, body: object) -> None:
    with serving() as client:
        short = client.post(path, json=body)
        client.app.direct = {}  # type: ignore[attr-defined]
        routed = client.post(path, json=body)
    assert set(short.headers) == set(routed.headers)
    same = [{**document, "instance": ""} for document in (short.json(), routed.json())]
    assert (short.status_code, same[0]) == (routed.status_code, same[1])
