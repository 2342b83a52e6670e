"""No body, however strange, is answered with a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.server.fixtures import CONTEXT, QUESTION, serving

JSON = {"Content-Type": "application/json"}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # surrogates, NUL and unassigned included
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(10**400, 10**401), st.floats(), ANY_TEXT)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4))
PARAMETERS = ("top_k", "doc_stride", "max_answer_len", "max_seq_len", "max_question_len", "align_to_words")
OWN_FIELDS = ("top_k", "max_answer_tokens", "no_answer_threshold", "offsets")
SMALL = st.integers(-2, 140)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


def post(client: TestClient, path: str, body: bytes) -> int:
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code in (200, 400, 413, 422), response.text
    response.json()
    status: int = response.status_code
    return status


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_any_bytes(client: TestClient, body: bytes) -> None:
    post(client, "/qa", body)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_json(client: TestClient, value: Any) -> None:
    body = json.dumps(value).encode()
    post(client, "/qa", body)
    post(client, "/qa/batch", body)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=ANY_TEXT, context=ANY_TEXT, extra=st.dictionaries(st.sampled_from(OWN_FIELDS), LEAVES | SMALL))
def test_any_question_and_context(client: TestClient, question: str, context: str, extra: dict[str, Any]) -> None:
    own = {"question": question, "context": context}
    post(client, "/qa", json.dumps({**own, **extra}).encode())
    post(client, "/qa/batch", json.dumps({"items": [own, own], **extra}).encode())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=st.dictionaries(st.sampled_from(PARAMETERS), SMALL | LEAVES), context=ANY_TEXT)
def test_any_task_parameters(client: TestClient, parameters: dict[str, Any], context: str) -> None:
    inputs = {"question": QUESTION, "context": context + " word" * 70}
    post(client, "/qa", json.dumps({"inputs": inputs, "parameters": parameters}).encode())


def _body(**fields: object) -> bytes:
    return json.dumps({"question": QUESTION, "context": CONTEXT, **fields}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (_body(context="\0" * 1_000), 200),
        (_body(question="\0"), 200),
        (_body(question="\0?\0", context="a\0b"), 200),
        (_body(context="\u202e\u200d\ufeff\ufffe\uffff"), 200),
        (_body(context="e" + "\u0301" * 50_000), 200),
        (_body(context="x" * 150_000), 200),
        (_body(context="\U0001f600" * 20_000), 200),
        (_body(context="[SEP] [CLS] [PAD] [MASK]"), 200),
        (_body(context="\ud800"), 422),
        (b'{"question": "a", "question": "b", "context": "c"}', 200),
        (b'{"question": "a", "context": "b", "top_k": ' + b"9" * 5_000 + b"}", 422),
        (b'{"question": "a", "context": "b", "top_k": -' + b"9" * 50 + b"}", 422),
        (b'{"question": "a", "context": "b", "top_k": 1e400}', 422),
        (b'{"question": "a", "context": "b", "no_answer_threshold": 1e400}', 422),
        (b'{"question": "a", "context": "b", "no_answer_threshold": NaN}', 400),
        (b"[" * 100_000, 400),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b'{"question": "' + b"x" * 10_000_000 + b'", "context": "b"}', 413),
    ],
)
def test_hand_picked_bodies(client: TestClient, body: bytes, status: int) -> None:
    assert post(client, "/qa", body) == status
