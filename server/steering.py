"""What moves the router from outside: the load on the host, and the fleet's figures from Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import numpy as np

from server.fleet import FleetLoop, Prometheus
from server.metrics import Metrics
from server.pressure import PressureReader, pressure
from server.routing.load_follower import LoadFollower
from server.routing.profile import PROBED
from server.routing.router import Router
from server.settings import Settings

logger = logging.getLogger("leeway")

LOOK_SECONDS = 0.25


class Steering:
    """Two background tasks on the event loop; both end with `stop`."""

    def __init__(  # noqa: PLR0913 - parts, each by name
        self,
        settings: Settings,
        router: Router,
        metrics: Metrics,
        *,
        threads: int,
        mean_length: int,
        reader: PressureReader | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            settings: of this process.
            router: gets the ceiling and the trim.
            metrics: show both.
            threads: of one inference.
            mean_length: tokens at which the costs of the configurations are compared.
            reader: of the host's counters; the real one if not given.
            clock_ns: monotonic.
        """
        self._router = router
        self._metrics = metrics
        self._threads = threads
        self._reader = reader if reader is not None else PressureReader()
        self._clock_ns = clock_ns
        self._length_class = router.model.work((mean_length,)).length_class
        costs = np.maximum.accumulate(router.model.profile.inference_ns((mean_length,)))
        self._follower = LoadFollower([float(cost) for cost in costs])
        self._task: asyncio.Task[None] | None = None
        self._fleet: FleetLoop | None = None
        if settings.prometheus_url is not None:
            self._fleet = FleetLoop(
                Prometheus(settings.prometheus_url, settings.prometheus_query, settings.prometheus_count_query),
                self._trim,
                on_poll=lambda result: metrics.fleet_polls.labels(result).inc(),
                seconds=settings.prometheus_seconds,
            )
        self._show()

    def start(self) -> None:
        """Begin to look, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="leeway-load")
        if self._fleet is not None:
            self._fleet.start()

    async def stop(self) -> None:
        """Look no more."""
        if self._fleet is not None:
            await self._fleet.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def look(self) -> None:
        """Read the load once, and let the ceiling follow."""
        sample = self._reader.sample()
        share = pressure(sample, self._threads)
        ceiling = self._follower.update(share, self._clock_ns())
        if ceiling != self._router.ceiling:
            logger.info("CPU pressure %.2f: requests without a budget get at most configuration %d", share, ceiling)
        self._router.ceiling = ceiling
        self._metrics.pressure.set(share)
        self._metrics.throttled.inc((sample.throttled_periods or 0.0) * sample.interval_ns / 1e9)

    async def _watch(self) -> None:
        while True:
            try:
                self.look()
            except OSError:
                logger.exception("the load on the host cannot be read; it is not followed any more")
                self._router.ceiling = len(self._router.f1) - 1
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _trim(self, trim: float) -> None:
        self._router.model.set_trim(trim)

    def _show(self) -> None:
        """Gauges that are read when asked for."""
        router, model = self._router, self._router.model
        self._metrics.ceiling.set_function(lambda: router.ceiling)
        self._metrics.trim.set_function(lambda: model.trim)
        self._metrics.profile_probed.set(model.profile.measured == PROBED)
        self._metrics.scale.set_function(lambda: model.scale(self._clock_ns()))
        self._metrics.tail.set_function(lambda: float(model.tails(self._length_class, self._clock_ns())[-1]))
