"""Request headers: parsed, checked, and refused with 400 where they are malformed."""

from __future__ import annotations

import os
import re

from starlette.datastructures import Headers

from server.answering import StageTimes, Wanted
from server.api.problems import ProblemError
from server.errors import ModelLoadError
from server.model import LoadedModel
from server.settings import Settings

BUDGET_HEADER = "X-Latency-Budget-ms"
GRPC_TIMEOUT_HEADER = "grpc-timeout"
POLICY_HEADER = "X-Latency-Budget-Policy"
LENGTH_CONFIG_HEADER = "X-Length-Config"
LARGEST_BUDGET_MS = 3_600_000
_GRPC_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_GRPC_UNITS_NS = {
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "m": 1_000_000,
    "u": 1_000,
    "n": 1,
}
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


def wanted(headers: Headers, budget_ns: int | None, model: LoadedModel, settings: Settings) -> Wanted:
    """What the caller wants of routing, with a budget of `budget_ns`; where nothing is said, what the settings say.

    Raises:
        ProblemError: 400, a header that is malformed or names no length configuration.
    """
    if budget_ns is None and settings.default_budget_ms is not None:
        budget_ns = round(settings.default_budget_ms * 1e6)
    return Wanted(budget_ns, _best_effort(headers), _pinned(headers, model, settings))


def latency_budget_ns(headers: Headers) -> int | None:
    """The latency budget of the caller in nanoseconds; None without one.

    ``X-Latency-Budget-ms`` is a plain decimal number of milliseconds, more than zero, at most an hour.
    ``grpc-timeout`` (gRPC over HTTP/2, "Requests") is an alias of it, where more than an hour (a client without
    a deadline sends years) is taken for an hour; both together must say the same.

    Raises:
        ProblemError: 400, a header is given twice, is no such number, or is out of range.
    """
    own, alias = _single(headers, BUDGET_HEADER), _single(headers, GRPC_TIMEOUT_HEADER)
    found = []
    if own is not None:
        if not _DECIMAL.fullmatch(own):
            raise _bad(BUDGET_HEADER, "is no plain decimal number of milliseconds")
        whole, _, fraction = own.partition(".")
        found.append((BUDGET_HEADER, int(whole) * 1_000_000 + int((fraction + "000000")[:6])))
    if alias is not None:
        match = _GRPC_TIMEOUT.fullmatch(alias)
        if match is None:
            raise _bad(GRPC_TIMEOUT_HEADER, "is no timeout: up to 8 digits and one of H M S m u n")
        timeout_ns = int(match[1]) * _GRPC_UNITS_NS[match[2]]
        found.append((GRPC_TIMEOUT_HEADER, min(timeout_ns, LARGEST_BUDGET_MS * 1_000_000)))
    for name, nanoseconds in found:
        if not 0 < nanoseconds <= LARGEST_BUDGET_MS * 1_000_000:
            raise _bad(name, f"must be more than 0 and at most {LARGEST_BUDGET_MS} ms")
    if len(found) == 2 and found[0][1] != found[1][1]:
        raise _bad(BUDGET_HEADER, f"says another budget than {GRPC_TIMEOUT_HEADER}")
    return found[0][1] if found else None


def _best_effort(headers: Headers) -> bool:
    policy = _single(headers, POLICY_HEADER)
    if policy not in (None, "strict", "best-effort"):
        raise _bad(POLICY_HEADER, "must be strict or best-effort")
    return policy == "best-effort"


def _pinned(headers: Headers, model: LoadedModel, settings: Settings) -> int | None:
    """Index of the pinned length configuration; the setting was checked when the model was loaded."""
    name = _single(headers, LENGTH_CONFIG_HEADER)
    if name is None:
        name = settings.length_config
    if name is None:
        return None
    try:
        return model.configurations.index(model.configuration(name))
    except ModelLoadError as error:
        raise _bad(LENGTH_CONFIG_HEADER, f"names no length configuration: {error}") from error


def _single(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise _bad(name, "is given more than once")
    return values[0] if values else None


def _bad(name: str, what: str) -> ProblemError:
    return ProblemError(400, "malformed-header", f"the header {name} {what}")


def traceparent(headers: Headers) -> str | None:
    """The caller's trace context if it is a valid one (W3C Trace Context, 3.2.2: no version ff, no id of zeros)."""
    values = headers.getlist("traceparent")
    return values[0] if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]) else None


def request_id(headers: Headers) -> str:
    """The caller's X-Request-ID if it is a sane one, else a new one."""
    given = headers.getlist("X-Request-ID")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return os.urandom(16).hex()


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
