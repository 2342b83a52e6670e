"""The application: ties settings, service and HTTP together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api import qa, state
from server.api.middleware import Guard
from server.api.openapi import install_openapi
from server.api.problems import CLIENT_GONE, ProblemError, problem_response
from server.calibration import profile_for
from server.model import LoadedModel, load_model
from server.routing.profile import LatencyProfile
from server.service import Service
from server.settings import Settings

_KINDS = {404: "not-found", 405: "method-not-allowed"}


def create_app(
    settings: Settings,
    *,
    load: Callable[[Settings], LoadedModel] = load_model,
    measure: Callable[[LoadedModel, Path | None], LatencyProfile] = profile_for,
    on_ready: Callable[[LoadedModel], None] | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> FastAPI:
    """An application that loads its model in the background once it is started.

    Args:
        settings: of this process.
        load: makes the model; runs on the inference thread.
        measure: gives the latency profile of the model, with the folder of those stored; runs there, too.
        on_ready: called on the event loop when questions are taken.
        on_failed: called on the event loop with the reason if loading failed.
    """
    service = Service(settings, load=load, measure=measure, on_ready=on_ready, on_failed=on_failed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = _Application(
        title="Leeway",
        version=package_version(),
        description="Extractive question answering on plain CPUs.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(qa.router)
    app.include_router(state.router)
    guard = partial(Guard, max_body_bytes=settings.max_body_bytes, metrics=service.metrics)
    app.add_middleware(guard)
    app.direct = {path: guard(_served_by(endpoint)) for path, endpoint in qa.ENDPOINTS.items()}
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    install_openapi(app)
    return app


def package_version() -> str:
    """Version of the installed distribution, ``0`` when it runs from a bare source tree."""
    try:
        return version("leeway-qa")
    except PackageNotFoundError:
        return "0"


class _Application(FastAPI):
    """FastAPI, whose way to an endpoint takes 0.2 ms when nobody has gone it for a while; so questions go past it.

    Attributes:
        direct: path -> what answers POST requests to it; the same endpoints are among the routes, for the docs.
    """

    direct: Mapping[str, ASGIApp] = MappingProxyType({})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.direct:
            scope["app"] = self
            await self.direct[scope["path"]](scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _served_by(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except ProblemError as error:
            response = await _on_problem(request, error)
        await response(scope, receive, send)

    return serve


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    if error.status == 413:
        raise error  # the guard reads the rest of the body before it answers
    if 400 <= error.status < 500 and error.status != CLIENT_GONE:
        request.app.state.service.metrics.invalid.labels(str(error.status)).inc()
    return problem_response(error, request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    problem = ProblemError(
        status,
        _KINDS.get(status, "http-error"),
        f"{request.method} {request.url.path}: {error.detail}",
        headers=error.headers or {},
    )
    return await _on_problem(request, problem)
