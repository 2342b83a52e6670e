"""The forms in which a question may come: to the core's words, and answers back into the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reading.offsets import utf16_offsets
from reading.spans import IMPOSSIBLE_ANSWER_THRESHOLD, Answer
from server.answering import Answered, Question
from server.api.body import validate
from server.api.problems import ProblemError
from server.api.routing import Routing
from server.api.schemas import BatchRequest, Item, QaRequest, TaskParameters, TaskRequest, Wishes
from server.model import LoadedModel, ReadingOptions
from server.settings import Settings

_OWN_FIELDS = {"max_answer": "max_answer_tokens"}
_TASK_FIELDS = {
    "question": "inputs.question",
    "context": "inputs.context",
    "top_k": "parameters.top_k",
    "max_length": "parameters.max_seq_len",
    "overlap": "parameters.doc_stride",
    "max_question": "parameters.max_question_len",
    "max_answer": "parameters.max_answer_len",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A validated request.

    Attributes:
        form: of the request, and so of the response.
        questions: at least one.
        options: how to read.
        field_names: the core's names of fields to the form's.
        utf16: whether offsets are wanted in UTF-16 code units.
        routing: whether the body should say how the request was routed.
    """

    form: Literal["own", "batch", "task"]
    questions: tuple[Question, ...]
    options: ReadingOptions
    field_names: Mapping[str, str]
    utf16: bool = False
    routing: bool = False


def asked(value: Any, settings: Settings) -> Asked:
    """A body of ``POST /qa``: the Hugging Face form if it has ``inputs``, else our own.

    Raises:
        ProblemError: 422.
    """
    if isinstance(value, dict) and "inputs" in value:
        task = validate(TaskRequest, value)
        found = Asked("task", _questions([task.inputs]), _task_options(task.parameters), _TASK_FIELDS)
    else:
        own = validate(QaRequest, value)
        found = Asked("own", _questions([own]), _own_options(own), _OWN_FIELDS, own.offsets == "utf16", own.routing)
    return _within_limits(found, settings)


def asked_batch(value: Any, settings: Settings) -> Asked:
    """A body of ``POST /qa/batch``.

    Raises:
        ProblemError: 422.
    """
    batch = validate(BatchRequest, value)
    if len(batch.items) > settings.max_batch_items:
        raise _over("items", f"at most {settings.max_batch_items} items, got {len(batch.items)}")
    found = Asked(
        "batch", _questions(batch.items), _own_options(batch), _OWN_FIELDS, batch.offsets == "utf16", batch.routing
    )
    return _within_limits(found, settings)


def response_body(asked: Asked, answered: Answered, model: LoadedModel, routing: Routing) -> object:
    """The response, ready for JSON, in the form of the request.

    The Hugging Face form is always a list, as the task's output schema says, also for a top_k of 1.
    """
    names = ("answer", "score", "start", "end") if asked.form == "task" else ("text", "score", "start", "end")
    lists = [
        _answer_list(question.context, answers, names, utf16=asked.utf16)
        for question, answers in zip(asked.questions, answered.answers, strict=True)
    ]
    if asked.form == "task":
        return lists[0]
    body = {
        "answers": lists if asked.form == "batch" else lists[0],
        "model": {"name": model.name, "version": model.version},
        "length_config": answered.configuration.id,
        "windows": answered.windows,
    }
    return {**body, "routing": asdict(routing)} if asked.routing else body


def _answer_list(
    context: str, answers: Sequence[Answer], names: tuple[str, str, str, str], *, utf16: bool
) -> list[dict[str, object]]:
    offsets = utf16_offsets(context) if utf16 and answers and not context.isascii() else None
    found = []
    for answer in answers:
        start, end = answer.start, answer.end
        if offsets is not None:
            start, end = int(offsets[start]), int(offsets[end])
        found.append(dict(zip(names, (answer.text, answer.score, start, end), strict=True)))
    return found


def _questions(items: Sequence[Item]) -> tuple[Question, ...]:
    return tuple(Question(item.question, item.context) for item in items)


def _own_options(wishes: Wishes) -> ReadingOptions:
    return ReadingOptions(
        top_k=wishes.top_k, max_answer=wishes.max_answer_tokens, no_answer_threshold=wishes.no_answer_threshold
    )


def _task_options(parameters: TaskParameters | None) -> ReadingOptions:
    given = parameters if parameters is not None else TaskParameters.model_validate({})
    return ReadingOptions(
        top_k=given.top_k if given.top_k is not None else 1,
        max_answer=given.max_answer_len,
        no_answer_threshold=IMPOSSIBLE_ANSWER_THRESHOLD if given.handle_impossible_answer else None,
        max_length=given.max_seq_len,
        overlap=given.doc_stride,
        max_question=given.max_question_len,
        align_to_words=bool(given.align_to_words),
    )


def _within_limits(found: Asked, settings: Settings) -> Asked:
    """`found`, if it keeps to the limits that are settings.

    Raises:
        ProblemError: 422.
    """
    if found.options.top_k > settings.max_top_k:
        raise _over(found.field_names.get("top_k", "top_k"), f"at most {settings.max_top_k}")
    limits = {"question": settings.max_question_chars, "context": settings.max_context_chars}
    for place, question in enumerate(found.questions):
        for part, limit in limits.items():
            length = len(getattr(question, part))
            if length > limit:
                name = found.field_names.get(part, part)
                prefix = f"items.{place}." if found.form == "batch" else ""
                raise _over(prefix + name, f"has {length} characters, at most {limit} are allowed")
    return found


def _over(name: str, detail: str) -> ProblemError:
    return ProblemError(422, "invalid-request", f"{name}: {detail}", [(name, detail)])
