"""What FastAPI cannot see by itself: bodies that the handlers parse on their own, and problem details."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.api.headers import (
    BUDGET_HEADER,
    GRPC_TIMEOUT_HEADER,
    LARGEST_BUDGET_MS,
    LENGTH_CONFIG_HEADER,
    POLICY_HEADER,
)
from server.api.problems import MEDIA_TYPE, ProblemDetails
from server.api.schemas import BatchRequest, QaRequest, TaskRequest

_REFERENCE = "#/components/schemas/{model}"
_PARSED_BY_HAND = (QaRequest, TaskRequest, BatchRequest, ProblemDetails)
_STATUSES = {
    400: "Malformed header or JSON",
    408: "The body took too long",
    413: "The body is over the limit",
    415: "No JSON, or an encoded body",
    422: "A field at fault, named in `errors`; or a budget that even an idle server cannot keep: `min_feasible_ms`",
    500: "A failure of the server",
    503: "Not ready, or the budget cannot be kept under the present load; see Retry-After and `retry_after_ms`",
    504: "The budget ran out before the question's turn came",
}

_REQUEST_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    BUDGET_HEADER: (
        "Latency budget in milliseconds: a plain decimal number.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST_BUDGET_MS},
    ),
    GRPC_TIMEOUT_HEADER: (
        "An alias of it: up to 8 digits and a unit, one of H M S m u n; over an hour is an hour.",
        {"type": "string"},
    ),
    POLICY_HEADER: (
        "strict refuses what cannot be done in time; best-effort gives the fastest answer instead.",
        {"type": "string", "enum": ["strict", "best-effort"], "default": "strict"},
    ),
    LENGTH_CONFIG_HEADER: ("Id of the length configuration to use, in place of routing.", {"type": "string"}),
    "X-Request-ID": ("Echoed in the response; made if not given.", {"type": "string"}),
    "traceparent": ("W3C trace context, passed on in the response.", {"type": "string"}),
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model=ProblemDetails.__name__)}}},
    }
    for status, description in _STATUSES.items()
}


def request_body(*models: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI of a JSON body that is one of `models`, and of the headers that go with it."""
    references = [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]
    examples = {
        f"{model.__name__}{number}": {"value": example}
        for model in models
        for number, example in enumerate(_examples(model), start=1)
    }
    schema = references[0] if len(references) == 1 else {"oneOf": references}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}},
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
            for name, (description, schema) in _REQUEST_HEADERS.items()
        ],
    }


def install_openapi(app: FastAPI) -> None:
    """Complete the application's OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, definitions = models_json_schema(
                [(model, "validation") for model in _PARSED_BY_HAND], ref_template=_REFERENCE
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend it


def _examples(model: type[BaseModel]) -> list[Any]:
    extra = model.model_config.get("json_schema_extra")
    found = extra.get("examples") if isinstance(extra, dict) else None
    return found if isinstance(found, list) else []
