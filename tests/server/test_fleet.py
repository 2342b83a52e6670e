"""Prometheus is asked, and what it says is checked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from server.fleet import (
    MAX_ANSWER_BYTES,
    FleetError,
    FleetReading,
    Prometheus,
    checked_url,
    value_of,
)
from server.settings import Settings


def answer(*values: object, kind: str = "vector", status: str = "success") -> bytes:
    result = [{"metric": {}, "value": [1_700_000_000.1, value]} for value in values]
    return json.dumps({"status": status, "data": {"resultType": kind, "result": result}}).encode()


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("0", 0.0), ("2e3", 2000.0), ("-1", -1.0)])
def test_the_one_value_of_a_vector_is_read(text: str, value: float) -> None:
    assert value_of(answer(text)) == value


@pytest.mark.parametrize("body", [answer(), answer("NaN"), answer("+Inf"), answer("-Inf")])
def test_no_value_and_no_number_are_no_data(body: bytes) -> None:
    assert value_of(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 60_000,
        b"null",
        b"[]",
        b'{"status": "success"}',
        b'{"status": "success", "data": []}',
        b'{"status": "success", "data": {"resultType": "vector"}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": {}}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": "1"}]}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"histogram": [1, {}]}]}}',
        answer("1.5", status="error"),
        answer("1.5", kind="matrix"),
        answer("1.5", "1.6"),
        answer("many"),
        answer(1.5),
        answer(None),
    ],
)
def test_any_other_answer_is_refused(body: bytes) -> None:
    with pytest.raises(FleetError, match=r"."):
        value_of(body)


@pytest.mark.parametrize("url", ["http://prometheus", "https://prometheus:9090/", "http://[::1]:9090/a/b"])
def test_http_and_https_are_addresses(url: str) -> None:
    assert checked_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        *("", "prometheus:9090", "file:///etc/passwd", "ftp://host", "http://", "http:///path", "http://host:0"),
        *("http://host:70000", "http://host:port", "http://me:secret@host", "http://host/?a=b", "http://host/#a"),
        *("http://host/a b", "http://host/\n", "http://[::1", "http://höst"),
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Prometheus(url, "query", "count")


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://host", "http://", "http://me@host", "http://host/ x"])
def test_a_setting_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="prometheus_url"):
        Settings(prometheus_url=url)


def test_without_a_setting_nobody_is_asked() -> None:
    assert Settings().prometheus_url is None


class Answers:
    """An HTTP server on the loopback that gives one answer per query and remembers what was asked."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {"median": answer("1.5"), "count": answer("120")}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.bodies[query])

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
                """Keep quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def answers() -> Iterator[Answers]:
    served = Answers()
    yield served
    served.close()


def test_median_and_count_are_asked_of_the_query_api(answers: Answers) -> None:
    assert Prometheus(f"{answers.url}/below/", "median", "count").read() == FleetReading(1.5, 120)
    assert answers.asked == ["/below/api/v1/query?query=median", "/below/api/v1/query?query=count"]


def test_a_query_is_escaped(answers: Answers) -> None:
    query = 'sum(rate(a{job="x y"}[5m])) & é'
    answers.bodies[query] = answer("2")
    assert Prometheus(answers.url, query, "count").read().median == 2


def test_no_count_is_no_samples(answers: Answers) -> None:
    answers.bodies["count"] = answer()
    assert Prometheus(answers.url, "median", "count").read() == FleetReading(1.5, 0)


@pytest.mark.parametrize("status", [302, 400, 422, 500, 503])
def test_any_status_but_200_is_a_failure_and_redirects_are_not_followed(answers: Answers, status: int) -> None:
    answers.status, answers.headers = status, {"Location": "/elsewhere?query=median"}
    with pytest.raises(FleetError, match=f"status {status}"):
        Prometheus(answers.url, "median", "count").read()
    assert len(answers.asked) == 1


def test_an_endless_answer_is_cut_off(answers: Answers) -> None:
    answers.bodies["median"] = b" " * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(FleetError, match="longer than"):
        Prometheus(answers.url, "median", "count").read()


def test_an_answer_that_breaks_off_is_a_failure(answers: Answers) -> None:
    answers.bodies["median"], answers.headers = answer("1.5")[:-5], {"Content-Length": "1000"}
    with pytest.raises(FleetError, match="no JSON"):
        Prometheus(answers.url, "median", "count").read()


def test_nobody_there_is_a_failure(answers: Answers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(FleetError, match="no answer"):
        Prometheus(url, "median", "count").read()


def test_a_server_that_says_nothing_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(FleetError, match="no answer"):
            Prometheus(url, "median", "count", timeout_s=0.05).read()


def test_what_speaks_no_http_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(FleetError, match="no answer"):
            Prometheus(f"http://127.0.0.1:{listener.getsockname()[1]}", "median", "count").read()
        thread.join()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "not known"), UnicodeError("label too long")])
def test_a_host_name_that_cannot_be_looked_up_is_a_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def look_up(*_args: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(FleetError, match="no answer"):
        Prometheus("http://prometheus.example", "median", "count").read()
