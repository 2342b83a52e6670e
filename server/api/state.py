"""``/health/live``, ``/health/ready``, ``/info`` and ``/metrics``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from server.api.openapi import PROBLEMS
from server.api.problems import ProblemError, from_domain
from server.errors import NotReadyError
from server.service import Service

router = APIRouter(tags=["state"])

_NOT_READY: dict[int | str, dict[str, Any]] = {503: PROBLEMS[503]}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.get("/health/live", summary="The process answers")
async def live() -> dict[str, str]:
    """200 from the moment the socket is open."""
    return {"status": "live"}


@router.get("/health/ready", responses=_NOT_READY, summary="Questions are taken")
async def ready(request: Request) -> dict[str, str]:
    """200 after warm-up; 503 before, and while draining."""
    state = _service(request).state
    if state != "ready":
        raise ProblemError(503, "not-ready", f"the server is {state}", headers={"Retry-After": "1"})
    return {"status": "ready"}


@router.get("/info", responses=_NOT_READY, summary="What is served, by what, within which limits")
async def info(request: Request) -> JSONResponse:
    """Model, engine, length configurations and limits."""
    service = _service(request)
    try:
        model = service.model
    except NotReadyError as error:
        raise from_domain(error, {}, batch=False) from error
    settings, engine, windows = service.settings, model.engine.info, model.window_defaults
    document: dict[str, Any] = {
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
        "engine": {
            "name": engine.name,
            "device": engine.device,
            "threads": engine.threads,
            "precision": engine.precision,
            "reason": model.engine_reason,
        },
        "length_configs": [
            {
                "id": each.id,
                "input_ratio": each.input_ratio,
                "ratios": list(each.ratios),
                "exempt_tokens": each.exempt_tokens,
            }
            for each in model.configurations
        ],
        "reading": {
            "max_length": windows.max_length,
            "overlap": windows.overlap,
            "max_question": windows.max_question,
            "max_answer": model.max_answer,
        },
        "limits": {
            "max_body_bytes": settings.max_body_bytes,
            "max_question_chars": settings.max_question_chars,
            "max_context_chars": settings.max_context_chars,
            "max_windows": settings.max_windows,
            "max_batch_items": settings.max_batch_items,
            "max_top_k": settings.max_top_k,
            "max_queue": settings.max_queue,
        },
    }
    return JSONResponse(document)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(_service(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
