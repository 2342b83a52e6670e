"""One engine, many callers: the line, the loop, and callers that give up.  No sleeps: a gate holds the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from server.app import create_app
from server.engine.fake import FakeEngine
from server.service import Service
from tests.server.fixtures import CONTEXT, QUESTION, fake_model, tiny_profile, tiny_settings

OWN = {"question": QUESTION, "context": CONTEXT}


class Held:
    """An application whose engine is held by a gate, and a client of it."""

    def __init__(self, app: FastAPI, client: httpx2.AsyncClient, engine: FakeEngine, gate: threading.Event) -> None:
        self.app = app
        self.client = client
        self.engine = engine
        self.gate = gate

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def ask(self, context: str = CONTEXT) -> asyncio.Task[httpx2.Response]:
        """A question on its way."""
        return asyncio.create_task(self.client.post("/qa", json={"question": QUESTION, "context": context}))

    async def until(self, waiting: int) -> None:
        """Until the engine is busy and so many requests wait in the line."""
        await asyncio.to_thread(self.engine.entered.wait)
        while self.service.answerer()[1].depth != waiting:  # noqa: ASYNC110 - the line has no event to wait for
            await asyncio.sleep(0)


@asynccontextmanager
async def held(**changes: Any) -> AsyncIterator[Held]:
    gate = threading.Event()
    model = fake_model(gate)
    app = create_app(tiny_settings(**changes), load=lambda settings: model, measure=tiny_profile)
    with opened_at_the_end(gate):
        async with app.router.lifespan_context(app):
            await app.state.service.loaded.wait()
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                assert isinstance(model.engine, FakeEngine)
                with opened_at_the_end(gate):
                    yield Held(app, client, model.engine, gate)


@contextmanager
def opened_at_the_end(gate: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        gate.set()


async def test_inference_does_not_block_the_event_loop() -> None:
    async with held() as server:
        asked = server.ask()
        await server.until(waiting=0)
        assert (await server.client.get("/health/live")).status_code == 200
        assert (await server.client.get("/health/ready")).status_code == 200
        assert not asked.done()
        server.gate.set()
        assert (await asked).status_code == 200


async def test_requests_are_run_one_after_the_other_and_all_answered() -> None:
    async with held() as server:
        asked = [server.ask() for _ in range(20)]
        await server.until(waiting=19)
        assert server.engine.calls == 1
        metrics = (await server.client.get("/metrics")).text
        assert "leeway_queue_depth 19.0" in metrics
        assert "leeway_requests_in_flight 20.0" in metrics
        server.gate.set()
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
        assert server.engine.calls == 20


async def test_beyond_the_longest_queue_requests_are_refused_at_once() -> None:
    async with held(max_queue=2) as server:
        asked = [server.ask()]
        await server.until(waiting=0)
        asked += [server.ask(), server.ask()]
        await server.until(waiting=2)
        refused = await server.client.post("/qa", json=OWN)
        assert refused.status_code == 503
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:leeway:problem:overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        server.gate.set()
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
        assert (await server.client.post("/qa", json=OWN)).status_code == 200


async def test_the_queued_work_of_a_cancelled_request_never_reaches_the_engine() -> None:
    async with held() as server:
        first = server.ask()
        await server.until(waiting=0)
        second, third = server.ask(), server.ask()
        await server.until(waiting=2)
        second.cancel()
        await server.until(waiting=1)
        server.gate.set()
        assert (await first).status_code == (await third).status_code == 200
        with pytest.raises(asyncio.CancelledError):
            await second
        assert server.engine.calls == 2
        assert server.service.answerer()[1].accepted == 0
        metrics = (await server.client.get("/metrics")).text
        assert 'leeway_requests_total{endpoint="qa",outcome="client_gone"} 1.0' in metrics


async def call(app: FastAPI, gone: asyncio.Event, sent: list[Any]) -> None:
    """One request over bare ASGI whose caller hangs up when `gone` is set."""
    body = b'{"question": "Who?", "context": "Ada Lovelace"}'
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/qa",
        "raw_path": b"/qa",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    await app(scope, receive, send)


async def test_the_queued_work_of_a_client_that_hung_up_never_reaches_the_engine() -> None:
    async with held() as server:
        first = server.ask()
        await server.until(waiting=0)
        gone, sent = asyncio.Event(), list[Any]()
        second = asyncio.create_task(call(server.app, gone, sent))
        await server.until(waiting=1)
        gone.set()
        await second
        assert sent[0]["status"] == 499
        server.gate.set()
        assert (await first).status_code == 200
        assert server.engine.calls == 1


async def test_the_work_of_a_client_that_hung_up_stops_after_the_present_slice() -> None:
    async with held(slice_ms=0.001) as server:
        long = server.ask("word " * 1_000)
        await server.until(waiting=0)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        server.gate.set()
        assert (await server.client.post("/qa", json=OWN)).status_code == 200
        assert server.engine.calls == 2


async def test_requests_that_wait_are_answered_while_draining() -> None:
    async with held() as server:
        asked = [server.ask(), server.ask()]
        await server.until(waiting=1)
        server.service.drain()
        assert (await server.client.post("/qa", json=OWN)).status_code == 503
        server.gate.set()
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}
