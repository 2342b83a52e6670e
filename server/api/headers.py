"""Request headers: parsed, checked, and refused with 400 where they are malformed."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers

from server.answering import StageTimes
from server.api.problems import ProblemError

BUDGET_HEADER = "X-Latency-Budget-ms"
LARGEST_BUDGET_MS = 3_600_000
_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


def latency_budget_ns(headers: Headers) -> int | None:
    """The latency budget of the caller in nanoseconds; None without the header.

    A plain decimal number of milliseconds, more than zero, at most an hour.

    Raises:
        ProblemError: 400, the header is given twice, is no such number, or is out of range.
    """
    values = headers.getlist(BUDGET_HEADER)
    if not values:
        return None
    if len(values) > 1:
        raise _bad_budget("is given more than once")
    if not _DECIMAL.fullmatch(values[0]):
        raise _bad_budget("is no plain decimal number of milliseconds")
    whole, _, fraction = values[0].partition(".")
    nanoseconds = int(whole) * 1_000_000 + int((fraction + "000000")[:6])
    if not 0 < nanoseconds <= LARGEST_BUDGET_MS * 1_000_000:
        raise _bad_budget(f"must be more than 0 and at most {LARGEST_BUDGET_MS}")
    return nanoseconds


def _bad_budget(what: str) -> ProblemError:
    return ProblemError(400, "malformed-header", f"the header {BUDGET_HEADER} {what}")


def request_id(headers: Headers) -> str:
    """The caller's X-Request-ID if it is a sane one, else a new one."""
    given = headers.getlist("X-Request-ID")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex


def check_content_type(headers: Headers) -> None:
    """Refuse bodies that say they are something else than JSON in UTF-8.

    Raises:
        ProblemError: 415.
    """
    given = headers.get("Content-Type")
    if given is None:
        return
    media_type, *parameters = [part.strip().lower() for part in given.split(";")]
    subtype = media_type.partition("/")[2]
    if media_type != "application/json" and not (media_type.startswith("application/") and subtype.endswith("+json")):
        raise ProblemError(415, "unsupported-media-type", "the body must be JSON: Content-Type: application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise ProblemError(415, "unsupported-media-type", "JSON is read as UTF-8 only")


def server_timing(times: StageTimes) -> str:
    """Value of the Server-Timing header: stages in milliseconds."""
    stages = {
        "queue": times.queue_ns,
        "tokenize": times.tokenize_ns,
        "infer": times.inference_ns,
        "post": times.post_ns,
        "total": times.total_ns,
    }
    return ", ".join(f"{name};dur={nanoseconds / 1e6:.3f}" for name, nanoseconds in stages.items())
