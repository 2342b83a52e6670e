"""``POST /qa`` and ``POST /qa/batch``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.body import read_json
from server.api.forms import Asked, asked, asked_batch, response_body
from server.api.headers import latency_budget_ns, wanted
from server.api.openapi import PROBLEMS, request_body
from server.api.problems import CLIENT_GONE, ProblemError, from_domain
from server.api.routing import Routing
from server.api.schemas import BatchRequest, BatchResponse, QaRequest, QaResponse, TaskAnswer, TaskRequest
from server.errors import ExpiredError, InfeasibleBudgetError, RefusedError, UnanswerableError
from server.metrics import Metrics
from server.routing.outcomes import Outcome
from server.service import Service
from server.settings import Settings

T = TypeVar("T")

router = APIRouter(tags=["questions"])


_WATCHED_AFTER_SECONDS = 0.02  # most questions are answered by then, and are spared a task that watches their caller
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_OUTCOMES = {InfeasibleBudgetError: Outcome.REJECTED_INFEASIBLE, ExpiredError: Outcome.EXPIRED_IN_QUEUE}


class ClientGoneError(Exception):
    """The caller closed the connection before the answer was there."""


@router.post(
    "/qa",
    response_model=QaResponse | list[TaskAnswer],
    responses=PROBLEMS,
    openapi_extra=request_body(QaRequest, TaskRequest),
    summary="Answer a question about a text",
)
async def answer_question(request: Request) -> Response:
    """Our own form, or the Hugging Face task form if the body has `inputs`; the response has the same form."""
    return await _serve(request, "qa", asked)


@router.post(
    "/qa/batch",
    response_model=BatchResponse,
    responses=PROBLEMS,
    openapi_extra=request_body(BatchRequest),
    summary="Answer several questions as one request",
)
async def answer_batch(request: Request) -> Response:
    """One list of answers per item. An item at fault fails the whole request, which names it by its index."""
    return await _serve(request, "qa_batch", asked_batch)


ENDPOINTS = {"/qa": answer_question, "/qa/batch": answer_batch}
"""By path; each reads its request itself, so that it needs nothing of FastAPI."""


async def _serve(request: Request, endpoint: str, parse: Callable[[Any, Settings], Asked]) -> Response:
    """Headers, body, answer, response; exactly one outcome is counted for a valid request."""
    arrival_ns = time.monotonic_ns()
    service: Service = request.app.state.service
    budget_ns = latency_budget_ns(request.headers)  # a malformed one is told before the body is read
    question = parse(await read_json(request, service.settings.body_seconds), service.settings)
    with _outcome_of_failure(service.metrics, endpoint, question):
        model, answerer = service.answerer()
        wishes = wanted(request.headers, budget_ns, model, service.settings)
        settings = model.reading_settings(question.options)
        work = answerer.answer(question.questions, settings, arrival_ns=arrival_ns, wanted=wishes)
        answered = await _unless_gone(request, work)
    expected_f1 = model.table.point(answered.configuration.id).held_out_f1
    met = wishes.budget_ns is None or answered.times.total_ns <= wishes.budget_ns
    routing = Routing.of(answered, wishes, expected_f1, met=met)
    body = _ENCODER.encode(response_body(question, answered, model, routing))
    # the loop's next turn, when the response has been written
    asyncio.get_running_loop().call_soon(partial(service.metrics.answered, endpoint, answered, expected_f1, met=met))
    return Response(body.encode(), headers=routing.headers(answered.times), media_type="application/json")


@contextmanager
def _outcome_of_failure(metrics: Metrics, endpoint: str, question: Asked) -> Iterator[None]:
    """Count the outcome of a request that gets no answer, and say it in words of its form."""
    batch = question.form == "batch"
    try:
        yield
    except (UnanswerableError, InfeasibleBudgetError, RefusedError, ExpiredError) as error:
        outcome = _OUTCOMES.get(type(error), Outcome.REJECTED_OVERLOAD)
        if not isinstance(error, UnanswerableError):
            metrics.unanswered(endpoint, outcome)
        raise from_domain(error, question.field_names, batch=batch) from error
    except ProblemError:
        raise  # a header that contradicts the model: counted with the malformed requests
    except asyncio.CancelledError:
        metrics.unanswered(endpoint, Outcome.CLIENT_GONE)
        raise
    except ClientGoneError:
        metrics.unanswered(endpoint, Outcome.CLIENT_GONE)
        raise ProblemError(CLIENT_GONE, "client-gone", "the caller closed the connection") from None
    except Exception:
        metrics.unanswered(endpoint, Outcome.FAILED)
        raise


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled as soon as the caller hangs up.

    Raises:
        ClientGoneError: the caller hung up first.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    gone = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        await _gone(request)
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    timer = loop.call_later(_WATCHED_AFTER_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and not task.uncancel():
            raise ClientGoneError from None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()


async def _gone(request: Request) -> None:
    """Return when the caller has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
