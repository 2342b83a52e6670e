"""Every error is problem details that say what is wrong, and none of them is ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from server.errors import ModelLoadError
from server.model import LoadedModel
from server.settings import Settings
from tests.server.fixtures import CONTEXT, QUESTION, client_of, fake_model, serving, wait_loaded

OWN = {"question": QUESTION, "context": CONTEXT}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(max_body_bytes=20_000, max_context_chars=10_000, max_windows=40, max_batch_items=3) as client:
        yield client


def problem(response: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem details of a response that has them and this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert set(found) - {"errors", "retry_after_ms", "min_feasible_ms"} == {
        "type",
        "title",
        "status",
        "detail",
        "instance",
    }
    assert found["status"] == status
    assert response.headers["X-Request-ID"] in found["instance"]
    return found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": ""}, "question"),
        ({"question": " \t\n"}, "question"),
        ({"context": ""}, "context"),
        ({"context": "\u3000\u2003"}, "context"),
        ({"question": None}, "question"),
        ({"question": 7}, "question"),
        ({"context": ["a"]}, "context"),
        ({"context": "x" * 10_001}, "context"),
        ({"question": "x" * 4_001}, "question"),
        ({"context": "a." * 2_500}, "context"),  # 5,000 tokens: too many windows
        ({"top_k": 0}, "top_k"),
        ({"top_k": 51}, "top_k"),
        ({"top_k": 10**100}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"top_k": "1"}, "top_k"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
        ({"no_answer_threshold": 1.01}, "no_answer_threshold"),
        ({"no_answer_threshold": -0.1}, "no_answer_threshold"),
        ({"offsets": "bytes"}, "offsets"),
        ({"topk": 3}, "topk"),
        ({"question": "\ud800"}, "question"),
        ({"context": "text \udfff"}, "context"),
        ({"\ud800": 1}, ""),
    ],
)
def test_a_field_at_fault_is_named(client: TestClient, change: dict[str, Any], field: str) -> None:
    body = json.dumps({**OWN, **change}).encode()
    found = problem(client.post("/qa", content=body, headers=JSON), 422)
    assert [error["field"] for error in found["errors"]] == [field]
    assert found["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"inputs": {"question": "", "context": "a"}}, "inputs.question"),
        ({"inputs": {"question": "a"}}, "inputs.context"),
        ({"inputs": [OWN]}, "inputs"),
        ({"inputs": OWN, "parameters": {"top_k": 0}}, "parameters.top_k"),
        ({"inputs": OWN, "parameters": {"top_k": 1000}}, "parameters.top_k"),
        ({"inputs": OWN, "parameters": {"max_seq_len": 129}}, "parameters.max_seq_len"),
        ({"inputs": OWN, "parameters": {"max_seq_len": 15}}, "parameters.max_seq_len"),
        ({"inputs": OWN, "parameters": {"max_question_len": 61}}, "parameters.max_question_len"),
        ({"inputs": OWN, "parameters": {"topK": 1}}, "parameters.topK"),
        ({"inputs": {**OWN, "context": "x" * 10_001}}, "inputs.context"),
        ({"inputs": {**OWN, "context": "a." * 2_500}}, "inputs.context"),
    ],
)
def test_a_field_of_the_hugging_face_form_is_named(client: TestClient, task: dict[str, Any], field: str) -> None:
    found = problem(client.post("/qa", json=task), 422)
    assert [error["field"] for error in found["errors"]] == [field]


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items"),
        ([OWN] * 4, "items"),
        ("text", "items"),
        ([OWN, 7], "items.1"),
        ([OWN, {"question": "Who?"}], "items.1.context"),
        ([OWN, {**OWN, "top_k": 1}], "items.1.top_k"),
        ([OWN, {**OWN, "context": "x" * 10_001}], "items.1.context"),
        ([OWN, {**OWN, "context": "a." * 2_500}], "items.1.context"),
    ],
)
def test_a_field_of_a_batch_is_named(client: TestClient, items: Any, field: str) -> None:
    found = problem(client.post("/qa/batch", json={"items": items}), 422)
    assert [error["field"] for error in found["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"{",
        b"question",
        b'{"question": "a"',
        b'{"question": NaN}',
        b'{"top_k": -Infinity}',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"[" * 9_000,
        b'{"a":' * 3_000,
        '{"question": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_is_a_bad_request(client: TestClient, body: bytes) -> None:
    assert problem(client.post("/qa", content=body, headers=JSON), 400)["type"].endswith("malformed-json")


@pytest.mark.parametrize("body", [b"null", b"7", b'"text"', b"[]", b"{}", b'{"inputs": null}', b"1e999"])
def test_json_of_another_shape_is_invalid(client: TestClient, body: bytes) -> None:
    problem(client.post("/qa", content=body, headers=JSON), 422)
    problem(client.post("/qa/batch", content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "0.0", "-1", "+5", "nan", "NaN", "inf", "Infinity", "1e3", "0x10", "5ms", "5,0", "5 5", ".5", "5."),
        *("٣", "3600000.1", "9" * 30, "1" * 5_000, "0.0000000001"),
    ],
)
def test_a_malformed_budget_is_a_bad_request(client: TestClient, value: str) -> None:
    found = problem(client.post("/qa", json=OWN, headers={b"X-Latency-Budget-ms": value.encode()}), 400)
    assert "X-Latency-Budget-ms" in found["detail"]


def test_a_budget_given_twice_is_a_bad_request(client: TestClient) -> None:
    problem(client.post("/qa", json=OWN, headers=[("X-Latency-Budget-ms", "5"), ("X-Latency-Budget-ms", "5")]), 400)


def test_a_body_that_says_it_is_too_large_is_refused(client: TestClient) -> None:
    problem(client.post("/qa", content=b" " * 20_001, headers=JSON), 413)


def test_a_body_that_turns_out_too_large_is_refused_while_it_streams(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000

    problem(client.post("/qa", content=chunks(), headers=JSON), 413)


def test_a_body_of_exactly_the_limit_is_read(client: TestClient) -> None:
    body = json.dumps(OWN).encode()
    assert client.post("/qa", content=body + b" " * (20_000 - len(body)), headers=JSON).status_code == 200


@pytest.mark.parametrize("length", ["", "-1", "1e3", "²", "9" * 30])
def test_a_content_length_that_is_no_number_is_a_bad_request(client: TestClient, length: str) -> None:
    headers = {b"Content-Length": length.encode(), b"Content-Type": b"application/json"}
    problem(client.post("/qa", content=b"{}", headers=headers), 400)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "", ";", "json"],
)
def test_another_content_type_is_unsupported(client: TestClient, content_type: str) -> None:
    problem(client.post("/qa", content=b"{}", headers={"Content-Type": content_type}), 415)


def test_an_encoded_body_is_unsupported(client: TestClient) -> None:
    problem(client.post("/qa", content=b"{}", headers={**JSON, "Content-Encoding": "gzip"}), 415)
    same = client.post("/qa", json=OWN, headers={"Content-Encoding": "identity"})
    assert same.status_code == 200


@pytest.mark.parametrize("path", ["/", "/qa/", "/qa/nothing", "/QA", "/favicon.ico", "/%00", "/%ff"])
def test_an_unknown_route_is_not_found(client: TestClient, path: str) -> None:
    problem(client.get(path), 404)


def test_a_wrong_method_says_which_are_allowed(client: TestClient) -> None:
    response = client.get("/qa")
    problem(response, 405)
    assert response.headers["Allow"] == "POST"


def test_a_failure_of_ours_shows_no_internals() -> None:
    model = fake_model()

    def explode(*arguments: object) -> None:
        raise RuntimeError("secret path")

    with serving(model) as client:
        model.engine.run = explode  # type: ignore[assignment, method-assign]
        found = problem(client.post("/qa", json=OWN), 500)
        assert "secret" not in json.dumps(found)
        assert 'leeway_requests_total{endpoint="qa",outcome="failed"} 1.0' in client.get("/metrics").text


def test_before_the_model_is_loaded_questions_are_refused() -> None:
    def never(settings: Settings) -> LoadedModel:
        raise ModelLoadError("no such model")

    with client_of(never) as client:
        wait_loaded(client)
        response = client.post("/qa", json=OWN)
        problem(response, 503)
        assert int(response.headers["Retry-After"]) >= 1
        problem(client.get("/info"), 503)
