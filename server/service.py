"""The life of one serving process: loading, ready, draining; and what it holds meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from server.answering import Answerer
from server.calibration import profile_for
from server.engine.threads import available_threads
from server.errors import DrainingError, ModelLoadError, NotReadyError
from server.inference_thread import InferenceThread
from server.line import InferenceLine
from server.metrics import Metrics
from server.model import LoadedModel, load_model
from server.routing.latency_model import LatencyModel
from server.routing.policy import BacklogPrice
from server.routing.profile import LatencyProfile
from server.routing.router import Router, RoutingSettings
from server.settings import Settings
from server.steering import Steering

logger = logging.getLogger("leeway")

State = Literal["loading", "ready", "draining", "failed"]


class Service:
    """Loads the model on the inference thread while the event loop already answers health checks.

    Attributes:
        settings: of this process.
        metrics: of this process.
        state: ``loading``, then ``ready`` or ``failed``; ``draining`` from the first call of `drain` on.
        failure: why loading failed.
        loaded: set when loading has ended, well or not.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[Settings], LoadedModel] = load_model,
        measure: Callable[[LoadedModel, Path | None], LatencyProfile] = profile_for,
        on_ready: Callable[[LoadedModel], None] | None = None,
        on_failed: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.state: State = "loading"
        self.failure: str | None = None
        self.loaded = asyncio.Event()
        self._load = load
        self._measure = measure
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._model: LoadedModel | None = None
        self._answerer: Answerer | None = None
        self._steering: Steering | None = None
        self._loading: asyncio.Task[None] | None = None
        self._inference = InferenceThread()
        self._text = ThreadPoolExecutor(settings.text_workers, "leeway-text")
        self.metrics.queue_depth.set_function(lambda: self._answerer.depth if self._answerer else 0)
        self.metrics.in_flight.set_function(lambda: self._answerer.accepted if self._answerer else 0)
        self.metrics.ready.set_function(lambda: float(self.state == "ready"))

    def start(self) -> None:
        """Begin to load, in the background of the running event loop."""
        self._loading = asyncio.get_running_loop().create_task(self._load_model())

    def drain(self) -> None:
        """Take no more questions; those accepted go on."""
        if self.state != "failed":
            self.state = "draining"

    async def close(self) -> None:
        """Free model and threads; work in progress ends after its present slice."""
        self.drain()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._steering is not None:
            await self._steering.stop()
        self._text.shutdown(wait=False, cancel_futures=True)
        if self._model is not None:
            await asyncio.get_running_loop().run_in_executor(self._inference, self._model.engine.close)
        self._inference.shutdown(wait=False)

    @property
    def model(self) -> LoadedModel:
        """The model.

        Raises:
            NotReadyError: it is not loaded yet.
        """
        if self._model is None:
            raise NotReadyError("the model is still loading or warming up")
        return self._model

    def answerer(self) -> tuple[LoadedModel, Answerer]:
        """Model and answerer, for a new question.

        Raises:
            NotReadyError: the model is not loaded yet.
            DrainingError: no more questions are taken.
        """
        if self.state == "draining":
            raise DrainingError("the server is shutting down and takes no more questions")
        if self._model is None or self._answerer is None:
            raise NotReadyError("the model is still loading or warming up")
        return self._model, self._answerer

    async def _load_model(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._ready(*await loop.run_in_executor(self._inference, self._load_and_measure))
        except ModelLoadError as error:
            self._failed(str(error))
        except Exception as error:
            logger.exception("loading the model failed unexpectedly")
            self._failed(f"loading the model failed unexpectedly: {type(error).__name__}: {error}")
        finally:
            self.loaded.set()

    def _failed(self, message: str) -> None:
        self.state = "failed"
        self.failure = message
        if self._on_failed is not None:
            self._on_failed(message)

    def _load_and_measure(self) -> tuple[LoadedModel, LatencyProfile]:
        """On the inference thread."""
        model = self._load(self.settings)
        if self.settings.length_config is not None:
            model.configuration(self.settings.length_config)
        return model, self._measure(model, self.settings.profile_dir)

    def _ready(self, model: LoadedModel, profile: LatencyProfile) -> None:
        router = make_router(model, profile, self.settings)
        own_cores = model.engine.info.threads >= available_threads()  # none is left for the event loop
        line = InferenceLine(model.engine, self._inference, model.configurations, router, answer_first=own_cores)
        self._answerer = Answerer(
            model.tokenizer,
            line,
            router.model,
            self._text,
            max_waiting=self.settings.max_queue,
            max_windows=self.settings.max_windows,
        )
        self._steering = Steering(
            self.settings,
            router,
            self.metrics,
            threads=model.engine.info.threads,
            mean_length=max(1, round(model.table.mean_real_length)),
        )
        self._steering.start()
        self._model = model
        info = model.engine.info
        self.metrics.model.labels(model.name, model.version, model.digest, info.name, info.precision).set(1)
        if self.state == "loading":
            self.state = "ready"
        if self._on_ready is not None:
            self._on_ready(model)


def make_router(model: LoadedModel, profile: LatencyProfile, settings: Settings) -> Router:
    """The router of one process, in the service's own words and limits."""
    latency_model = LatencyModel(profile, late_share=settings.late_share)
    typical_ns = latency_model.work((max(1, round(model.table.mean_real_length)),)).base_ns
    f1 = np.array([point.held_out_f1 for point in model.table.points])
    limits = RoutingSettings(
        capacity=settings.max_queue + 1,
        reserve_ns=round(settings.budget_reserve_ms * 1e6),
        patience_ns=round(settings.patience_ms * 1e6),
        slice_ns=round(settings.slice_ms * 1e6),
    )
    policy = BacklogPrice(f1, typical_ns, refusal_cost=settings.refusal_cost)
    return Router(model.table, latency_model, policy, limits)
