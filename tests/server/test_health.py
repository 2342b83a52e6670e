"""Loading, readiness, draining, `/info`, `/metrics` and the OpenAPI document."""

from __future__ import annotations

import threading

import pytest
from starlette.testclient import TestClient

from server.errors import ModelLoadError
from server.model import LoadedModel
from server.routing.outcomes import Outcome
from server.service import Service
from server.settings import Settings
from tests.server.fixtures import CONTEXT, QUESTION, client_of, fake_model, serving, wait_loaded

OWN = {"question": QUESTION, "context": CONTEXT}


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def test_live_while_loading_ready_only_afterwards() -> None:
    gate = threading.Event()

    def slow(settings: Settings) -> LoadedModel:
        gate.wait()
        return fake_model()

    with client_of(slow) as client:
        try:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 503
            assert client.post("/qa", json=OWN).status_code == 503
            assert "leeway_ready 0.0" in client.get("/metrics").text
        finally:
            gate.set()
        wait_loaded(client)
        assert client.get("/health/ready").status_code == 200
        assert client.post("/qa", json=OWN).status_code == 200
        assert "leeway_ready 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("error", [ModelLoadError("the file is gone"), RuntimeError("the file is gone")])
def test_a_model_that_cannot_be_loaded_leaves_the_server_not_ready(error: Exception) -> None:
    def broken(settings: Settings) -> LoadedModel:
        raise error

    with client_of(broken) as client:
        wait_loaded(client)
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        assert "the file is gone" in str(service_of(client).failure)


def test_a_draining_server_is_not_ready_and_takes_no_questions() -> None:
    with serving() as client:
        service_of(client).drain()
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        refused = client.post("/qa", json=OWN)
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        assert 'leeway_requests_total{endpoint="qa",outcome="rejected_overload"} 1.0' in client.get("/metrics").text


def test_the_engine_is_closed_at_the_end() -> None:
    model = fake_model()
    with serving(model):
        pass
    assert model.engine.closed  # type: ignore[attr-defined]


def test_info_says_what_is_served() -> None:
    with serving(max_queue=7) as client:
        info = client.get("/info").json()
    assert info["model"] == {"name": "tiny", "version": "3", "digest": "sha256:0"}
    assert info["engine"].pop("reason") == "named by the settings"
    assert info["engine"] == {"name": "fake", "device": "none", "threads": 1, "precision": "none"}
    assert [each["id"] for each in info["length_configs"]] == ["c01", "full"]
    assert info["reading"] == {"max_length": 64, "overlap": 16, "max_question": 16, "max_answer": 8}
    assert info["limits"]["max_queue"] == 7


def test_metrics_count_outcomes_and_stages() -> None:
    with serving() as client:
        client.post("/qa", json=OWN)
        client.post("/qa/batch", json={"items": [OWN, OWN]})
        client.post("/qa", json={"question": "Who?"})
        lines = client.get("/metrics").text.splitlines()
    assert 'leeway_requests_total{endpoint="qa",outcome="served_in_budget"} 1.0' in lines
    assert 'leeway_requests_total{endpoint="qa_batch",outcome="served_in_budget"} 1.0' in lines
    for outcome in list(Outcome)[1:]:
        assert f'leeway_requests_total{{endpoint="qa",outcome="{outcome}"}} 0.0' in lines
    assert 'leeway_invalid_requests_total{status="422"} 1.0' in lines
    for stage in ("queue", "tokenize", "inference", "post"):
        assert f'leeway_stage_seconds_count{{length_config="full",stage="{stage}"}} 2.0' in lines
    assert 'leeway_request_seconds_count{length_config="full",outcome="served_in_budget"} 2.0' in lines
    assert "leeway_queue_depth 0.0" in lines
    assert "leeway_requests_in_flight 0.0" in lines


def test_two_applications_share_no_metrics() -> None:
    with serving() as first, serving() as second:
        first.post("/qa", json=OWN)
        assert 'outcome="served_in_budget"} 1.0' not in second.get("/metrics").text


def test_openapi_has_the_forms_with_examples_that_work() -> None:
    with serving() as client:
        document = client.get("/openapi.json").json()
        for path in ("/qa", "/qa/batch"):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            assert content["examples"]
            for example in content["examples"].values():
                assert client.post(path, json=example["value"]).status_code == 200
    names = document["components"]["schemas"]
    references = {part.split('"')[0] for part in str(document).replace("'", '"').split("#/components/schemas/")[1:]}
    assert references <= set(names)
    assert {"422", "503", "413"} <= set(document["paths"]["/qa"]["post"]["responses"])
