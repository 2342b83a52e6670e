"""Errors as problem details (RFC 9457), and which error of the core is which status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from pydantic import BaseModel, Field
from starlette.responses import Response

from server.errors import (
    ExpiredError,
    InfeasibleBudgetError,
    LeewayError,
    OverloadedError,
    RefusedError,
    UnanswerableError,
)

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499  # nobody reads it; the log and the metrics do


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Path of the field, its parts joined by dots; empty for the body as a whole.")
    detail: str = Field(description="What is wrong with it.")


class ProblemDetails(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Kind of the problem, stable, to compare with.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time.")
    instance: str = Field(description="This occurrence: names the X-Request-ID.")
    errors: list[FieldProblem] | None = Field(None, description="With status 422: the fields at fault.")
    min_feasible_ms: float | None = Field(
        None, description="With kind budget-infeasible: the least budget that an idle server accepts for this."
    )
    retry_after_ms: int | None = Field(None, description="With status 503: when another try is sensible.")


class ProblemError(Exception):
    """Ends a request with problem details.

    Attributes:
        status: HTTP status.
        kind: last part of the type, for example ``queue-full``.
        detail: what happened, for the caller.
        errors: fields at fault and what is wrong with each.
        headers: of the response.
        members: further members of the problem details (RFC 9457, section 3.2).
    """

    def __init__(  # noqa: PLR0913 - parts of a problem
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        members: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.members = members

    def __str__(self) -> str:
        return f"{self.status} {self.kind}: {self.detail}"


def problem_response(problem: ProblemError, request_id: str) -> Response:
    """The response for `problem`."""
    body: dict[str, object] = {
        "type": f"urn:leeway:problem:{problem.kind}",
        "title": problem.kind.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": _printable(problem.detail),
        "instance": f"urn:leeway:request:{quote(request_id, safe='')}",
    }
    body.update(problem.members)
    if problem.errors:
        body["errors"] = [{"field": _printable(name), "detail": _printable(detail)} for name, detail in problem.errors]
    return Response(
        json.dumps(body, ensure_ascii=False).encode(), problem.status, dict(problem.headers), media_type=MEDIA_TYPE
    )


def from_domain(error: LeewayError, field_names: Mapping[str, str], *, batch: bool) -> ProblemError:
    """The problem that an error of the core is to a caller.

    Args:
        error: of the core.
        field_names: the core's field names to those of the caller's form.
        batch: whether a field belongs to one of many items.
    """
    if isinstance(error, UnanswerableError):
        name = field_names.get(error.field, error.field)
        if batch and error.field in ("question", "context"):
            name = f"items.{error.item}.{name}"
        return ProblemError(422, "invalid-request", f"{name}: {error}", [(name, str(error))])
    if isinstance(error, InfeasibleBudgetError):
        least_ms = math.ceil(error.min_feasible_ns / 1e5) / 10
        return ProblemError(422, "budget-infeasible", str(error), members={"min_feasible_ms": least_ms})
    if isinstance(error, ExpiredError):
        return ProblemError(504, "budget-expired", str(error))
    if isinstance(error, RefusedError):
        return _not_now(error)
    return internal_error()


def _not_now(error: RefusedError) -> ProblemError:
    kind = "overloaded" if isinstance(error, OverloadedError) else "not-ready"
    seconds = min(60, math.ceil(error.retry_after_ns / 1e9))
    wait_ms = math.ceil(error.retry_after_ns / 1e6)
    return ProblemError(
        503, kind, str(error), headers={"Retry-After": str(seconds)}, members={"retry_after_ms": wait_ms}
    )


def internal_error() -> ProblemError:
    """A failure of ours, without internals."""
    return ProblemError(500, "internal-error", "the server failed; its log says why under this request id")


def _printable(text: str) -> str:
    """Text that UTF-8 can hold: callers' own names may have lone surrogates."""
    return text[:500].encode("utf-8", "replace").decode()
