"""What a caller sees of routing: headers, refusals, pins, and what the metrics count."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from reading.tokens import TokenizedText
from server.service import Service
from tests.server.fixtures import CONTEXT, QUESTION, fake_model, serving

OWN = {"question": QUESTION, "context": CONTEXT}
BUDGET = "X-Latency-Budget-ms"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as opened:
        yield opened


def ask(client: TestClient, body: Any = OWN, **headers: str) -> Any:
    return client.post("/qa", json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_an_answer_says_which_configuration_and_what_was_expected(client: TestClient) -> None:
    response = ask(client, X_Latency_Budget_ms="5000")
    assert response.status_code == 200
    headers = response.headers
    assert (headers["X-Length-Config"], headers["X-Expected-F1"]) == ("full", "80.00")
    assert headers["X-Latency-Budget-Met"] == "true"
    assert float(headers["X-Predicted-Latency-ms"]) > 0
    assert all(stage in headers["Server-Timing"] for stage in ("queue;", "tokenize;", "infer;", "post;"))
    assert "routing" not in response.json()


def test_the_body_says_the_same_when_asked(client: TestClient) -> None:
    response = ask(client, {**OWN, "routing": True}, X_Latency_Budget_ms="5000")
    routing = response.json()["routing"]
    assert routing["length_config"] == response.headers["X-Length-Config"]
    assert f"{routing['predicted_latency_ms']:.3f}" == response.headers["X-Predicted-Latency-ms"]
    assert (routing["expected_f1"], routing["budget_ms"], routing["budget_met"]) == (80.0, 5000.0, True)
    without = ask(client, {**OWN, "routing": True}).json()["routing"]
    assert (without["budget_ms"], without["budget_met"]) == (None, None)


def test_the_items_of_a_batch_share_one_budget(client: TestClient) -> None:
    response = client.post("/qa/batch", json={"items": [OWN, OWN], "routing": True}, headers={BUDGET: "5000"})
    assert response.json()["routing"]["budget_met"] is True
    assert response.headers["X-Latency-Budget-Met"] == "true"


def test_a_budget_below_the_fastest_answer_is_refused_with_the_least_that_would_do(client: TestClient) -> None:
    response = ask(client, X_Latency_Budget_ms="0.5")
    found = response.json()
    assert response.status_code == 422
    assert found["type"] == "urn:leeway:problem:budget-infeasible"
    assert found["min_feasible_ms"] > 0.5
    assert 'outcome="rejected_infeasible"} 0.0' not in client.get("/metrics").text.split("qa_batch")[0]


def test_the_least_budget_has_room_for_tokenizing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake_model()
    encode = model.tokenizer.encode

    def slow(text: str) -> TokenizedText:
        time.sleep(0.02)
        return encode(text)

    monkeypatch.setattr(model.tokenizer, "encode", slow)
    with serving(model) as client:
        assert ask(client, X_Latency_Budget_ms="0.5").json()["min_feasible_ms"] > 40.0


def test_best_effort_gets_the_fastest_answer_in_place_of_a_refusal(client: TestClient) -> None:
    response = ask(client, X_Latency_Budget_ms="0.0001", X_Latency_Budget_Policy="best-effort")
    assert response.status_code == 200
    assert response.headers["X-Length-Config"] == "c01"
    assert response.headers["X-Latency-Budget-Met"] == "false"


def test_a_request_may_pin_its_configuration(client: TestClient) -> None:
    assert ask(client, X_Length_Config="c01").headers["X-Length-Config"] == "c01"
    assert ask(client, X_Length_Config="full").headers["X-Length-Config"] == "full"


def test_a_setting_pins_it_for_all_and_a_request_wins() -> None:
    with serving(length_config="c01") as client:
        assert ask(client).headers["X-Length-Config"] == "c01"
        assert ask(client, X_Length_Config="full").headers["X-Length-Config"] == "full"


def test_a_setting_that_names_no_configuration_stops_the_start() -> None:
    with serving(length_config="c99") as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        assert service.state == "failed"
        assert "c01, full" in str(service.failure)


def test_a_server_wide_default_budget_holds_for_requests_without_one() -> None:
    with serving(default_budget_ms=5000) as client:
        assert ask(client).headers[BUDGET] == "5000"


@pytest.mark.parametrize(
    ("timeout", "budget"),
    [("100m", "100"), ("2S", "2000"), ("1H", "3600000"), ("99999999H", "3600000"), ("1500000u", "1500")],
)
def test_grpc_timeout_is_an_alias_of_the_budget(client: TestClient, timeout: str, budget: str) -> None:
    response = ask(client, grpc_timeout=timeout)
    assert response.status_code == 200
    assert float(response.headers[BUDGET]) == float(budget)


@pytest.mark.parametrize(
    "headers",
    [{"X-Latency-Budget-ms": value} for value in ("0", "-5", "nan", "inf", "1e3", "", " ", "5,5", "12ms")]
    + [{"grpc-timeout": value} for value in ("100", "m", "123456789m", "-1S", "0n")]
    + [
        {"X-Latency-Budget-ms": "100", "grpc-timeout": "200m"},
        {"X-Latency-Budget-Policy": "fastest"},
        {"X-Length-Config": "c99"},
        {"X-Length-Config": ""},
    ],
)
def test_malformed_and_contradicting_headers_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    response = client.post("/qa", content=json.dumps(OWN), headers=headers)
    assert response.status_code == 400, response.text
    assert next(reversed(headers)) in response.text or next(iter(headers)) in response.text


@pytest.mark.parametrize("budget", ["3600000", "1234567.5", "5000.000001"])
def test_the_budget_of_the_answer_is_the_one_that_was_asked_for(client: TestClient, budget: str) -> None:
    assert ask(client, X_Latency_Budget_ms=budget).headers[BUDGET] == budget


def test_both_budget_headers_may_say_the_same(client: TestClient) -> None:
    assert ask(client, X_Latency_Budget_ms="5000", grpc_timeout="5S").status_code == 200


def test_a_trace_is_passed_on_if_it_is_one(client: TestClient) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert ask(client, traceparent=trace).headers["traceparent"] == trace


@pytest.mark.parametrize(
    "trace",
    [
        "nonsense",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_what_is_no_trace_is_not_passed_on(client: TestClient, trace: str) -> None:
    assert "traceparent" not in ask(client, traceparent=trace).headers


def test_the_router_s_figures_are_exported(client: TestClient) -> None:
    ask(client, X_Latency_Budget_ms="5000")
    text = client.get("/metrics").text
    for name in (
        *("leeway_predicted_latency_seconds_count", "leeway_prediction_ratio_count", "leeway_slack_seconds_count"),
        *("leeway_service_ratio_count", "leeway_scale_factor", "leeway_tail_factor", "leeway_profile_trim"),
        *("leeway_cpu_pressure", "leeway_load_ceiling", "leeway_expected_f1_total"),
    ):
        assert f"\n{name}" in text, name
