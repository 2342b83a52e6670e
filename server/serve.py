"""One process under uvicorn: signals, draining, and the exit status."""

from __future__ import annotations

import gc
import logging
import signal
from types import FrameType

import uvicorn

from server.app import create_app
from server.logs import set_up_logging
from server.model import LoadedModel
from server.service import Service
from server.settings import Settings

logger = logging.getLogger("leeway")


class _Server(uvicorn.Server):
    """Stops being ready as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM and SIGINT."""
        self._service.drain()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> int:
    """Serve until told to stop.

    Returns:
        Exit status: 0 after SIGTERM or SIGINT, 1 if the model could not be loaded or the address not be had.
    """
    set_up_logging(settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}"

    def on_ready(model: LoadedModel) -> None:
        gc.freeze()  # what is loaded stays: no collection need look through it
        info = model.engine.info
        logger.info(
            "ready: %s on %s, %d threads, %s, at %s", model.reference, info.name, info.threads, info.precision, url
        )

    def on_failed(message: str) -> None:
        logger.error("%s", message)
        server.should_exit = True

    app = create_app(settings, on_ready=on_ready, on_failed=on_failed)
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who calls
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = _Server(config, service)
    _ignore_the_signal_that_uvicorn_raises_again()
    logger.info("loading %s, listening at %s", settings.model, url)
    try:
        server.run()
    except SystemExit:  # uvicorn has logged why it could not start, a taken port for example
        return 1
    return 1 if service.failure is not None or not server.started else 0


def _ignore_the_signal_that_uvicorn_raises_again() -> None:
    """After a clean stop uvicorn raises the signal once more, for whoever had a handler before: nobody here."""

    def nothing(_number: int, _frame: FrameType | None) -> None:
        return None

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, nothing)
