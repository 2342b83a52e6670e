"""The slow loop against a real Prometheus: an injected drift is found, and an outage changes nothing."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from benchmarks.prometheus import PrometheusServer
from server.fleet import FleetLoop, PollResult, Prometheus
from server.routing.trim import Trim
from tests.integration.prometheus_server import prometheus_binary

DRIFT = 1.5
# The default queries over a shorter window than minutes.
MEDIAN = "histogram_quantile(0.5, sum by (le) (rate(leeway_service_ratio_bucket[5s])))"
COUNT = "sum(increase(leeway_service_ratio_count[5s]))"
PATIENCE_S = 60


class DriftedFleet:
    """An endpoint whose observed service times are `DRIFT` times the profile's, with some noise."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._histogram = Histogram(
            "leeway_service_ratio",
            "Observed over profile.",
            buckets=[0.5 * 1.1**step for step in range(20)],
            registry=registry,
        )
        self._source = random.Random(11)
        self._server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.port = self._server.server_port

    async def work(self) -> None:
        """Answer about a thousand questions a second, until cancelled."""
        while True:
            for _ in range(50):
                self._histogram.observe(DRIFT * math.exp(self._source.gauss(0, 0.1)))
            await asyncio.sleep(0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prometheus_binary(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def fleet() -> Iterator[DriftedFleet]:
    endpoint = DriftedFleet()
    yield endpoint
    endpoint.close()


@pytest.fixture
def prometheus(binary: Path, fleet: DriftedFleet, tmp_path: Path) -> Iterator[PrometheusServer]:
    server = PrometheusServer(binary, tmp_path, fleet.port)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


async def test_the_trim_finds_the_drift_and_keeps_it_when_prometheus_is_gone(
    prometheus: PrometheusServer, fleet: DriftedFleet, caplog: pytest.LogCaptureFixture
) -> None:
    trims: list[float] = []
    results: list[PollResult] = []
    settled, gone = asyncio.Event(), asyncio.Event()

    def on_trim(trim: float) -> None:
        trims.append(trim)
        # Several in a row: it must stay there, not merely pass by.
        if len(trims) >= 12 and all(each == pytest.approx(DRIFT, rel=0.1) for each in trims[-5:]):
            settled.set()

    def on_poll(result: PollResult) -> None:
        results.append(result)
        if results.count("failed") >= 3:
            gone.set()

    source = Prometheus(prometheus.url, MEDIAN, COUNT)
    loop = FleetLoop(source, on_trim, on_poll=on_poll, trim=Trim(least_samples=100), seconds=0.5)
    working = asyncio.create_task(fleet.work())
    loop.start()
    try:
        await asyncio.wait_for(settled.wait(), PATIENCE_S)
        assert caplog.records == []

        await asyncio.to_thread(prometheus.stop)
        await asyncio.wait_for(gone.wait(), PATIENCE_S)
        assert loop.failing
        assert loop.trim.value == trims[-1] == pytest.approx(DRIFT, rel=0.1)
        assert len(caplog.records) == 1
        assert "no answer" in caplog.records[0].getMessage()
    finally:
        await loop.stop()
        working.cancel()
        await asyncio.wait([working])


def must_not_trim(trim: float) -> None:
    pytest.fail(f"trimmed to {trim}")


async def test_before_anything_was_observed_there_is_no_data(prometheus: PrometheusServer) -> None:
    results: list[PollResult] = []
    loop = FleetLoop(Prometheus(prometheus.url, MEDIAN, COUNT), must_not_trim, on_poll=results.append)
    assert await loop.poll() == "no_data"
    assert results == ["no_data"]


async def test_a_query_that_prometheus_does_not_understand_is_a_failure(prometheus: PrometheusServer) -> None:
    loop = FleetLoop(Prometheus(prometheus.url, "sum(", COUNT), must_not_trim)
    assert await loop.poll() == "failed"
