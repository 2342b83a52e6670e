"""Bodies: read in time, parsed, validated.  Whatever a caller sends ends in a model or in a 4xx."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from server.api.headers import check_content_type
from server.api.problems import ProblemError

M = TypeVar("M", bound=BaseModel)

_MOST_ERRORS = 20


async def read_json(request: Request, seconds: float) -> Any:
    """The parsed body of `request`.

    Duplicate keys: the last one counts.  NaN and Infinity, which Python would read, are no JSON.

    Raises:
        ProblemError: 400 no JSON, 408 not complete within `seconds`, 415 another content type.
    """
    check_content_type(request.headers)
    try:
        async with asyncio.timeout(seconds):
            body = await _whole(request)
    except TimeoutError:
        raise ProblemError(
            408, "request-timeout", f"the body did not arrive within {seconds:g} s", headers={"Connection": "close"}
        ) from None
    return parse_json(body)


async def _whole(request: Request) -> bytes:
    """The body, without the stream that the request would make of it."""
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def parse_json(body: bytes) -> Any:
    """`body` as JSON in UTF-8.

    Raises:
        ProblemError: 400, it is none.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProblemError(400, "malformed-json", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ProblemError(
            400, "malformed-json", f"the body is no JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise ProblemError(400, "malformed-json", "the body is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ProblemError(400, "malformed-json", f"the body is no JSON: {name} is no JSON number")


def _bounded_int(digits: str) -> int | float:
    """Integers of sensible size; longer ones become floats, which no field of ours takes for an integer."""
    return int(digits) if len(digits) <= 40 else float(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_bounded_int)


def validate(model: type[M], value: Any) -> M:
    """`value` as `model`.

    Raises:
        ProblemError: 422 naming every field at fault.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
    except RecursionError:
        nested = "the body is nested too deeply"
        raise ProblemError(422, "invalid-request", nested, [("", nested)]) from None
    errors = [(_path(entry["loc"]), entry["msg"]) for entry in found]
    raise ProblemError(422, "invalid-request", _summary(errors), errors)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in location)


def _summary(errors: list[tuple[str, str]]) -> str:
    name, detail = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{name or 'body'}: {detail}{more}"
