"""Bodies of requests and responses, as validated and as shown by OpenAPI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

_EXAMPLE: JsonDict = {
    "question": "Who wrote the first program?",
    "context": "Ada Lovelace published the first program for the Analytical Engine in 1843.",
}
LONGEST_ANSWER = 512


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Offsets = Literal["codepoint", "utf16"]


class _Strict(BaseModel):
    """No conversion of types, no unknown field: a typing error is told, not ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class Item(_Strict):
    """A question about a text."""

    question: Text = Field(description="The question.")
    context: Text = Field(description="The text that holds the answer.")


class Wishes(_Strict):
    """What answers are wanted; the same in every form of our own."""

    top_k: int = Field(1, ge=1, description="Answers per question at most, best first.")
    max_answer_tokens: int | None = Field(
        None, ge=1, le=LONGEST_ANSWER, description="Longest answer in tokens; the model's default if not given."
    )
    no_answer_threshold: Probability | None = Field(
        None,
        description="If the best answer's score is below this, the empty answer comes first. Not given: there is "
        "always an answer (the model is trained on questions that have one).",
    )
    offsets: Offsets = Field(
        "codepoint", description="Unit of start and end: Unicode code points, or UTF-16 code units as in JavaScript."
    )
    routing: bool = Field(default=False, description="Say in the body how the request was routed.")


class QaRequest(Item, Wishes):
    """A question about a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE, {**_EXAMPLE, "top_k": 3, "offsets": "utf16"}]})


class BatchRequest(Wishes):
    """Several questions, answered as one request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_EXAMPLE, _EXAMPLE]}]})

    items: list[Item] = Field(min_length=1, description="The questions with their texts.")


class TaskParameters(_Strict):
    """Parameters of the Hugging Face question-answering task; null is the same as not given."""

    top_k: int | None = Field(None, ge=1, description="Answers at most; 1 if not given.")
    doc_stride: int | None = Field(None, ge=0, description="Overlap of neighbouring windows in tokens.")
    max_answer_len: int | None = Field(None, ge=1, le=LONGEST_ANSWER, description="Longest answer in tokens.")
    max_seq_len: int | None = Field(None, ge=1, description="Longest window in tokens, question included.")
    max_question_len: int | None = Field(None, ge=1, description="Tokens kept of the question.")
    handle_impossible_answer: bool | None = Field(
        None, description="The same as a no_answer_threshold of 0.5: below it the empty answer comes first."
    )
    align_to_words: bool | None = Field(None, description="Widen answers to whole words.")


class TaskRequest(_Strict):
    """The form of the Hugging Face question-answering task."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": _EXAMPLE, "parameters": {"top_k": 2, "max_answer_len": 15}}]}
    )

    inputs: Item
    parameters: TaskParameters | None = None
    options: dict[str, object] | None = Field(None, description="Sent by Hugging Face clients; ignored.")
    model: str | None = Field(None, description="Sent by some clients; ignored: one server serves one model.")


class AnswerOut(BaseModel):
    """One answer; in code points `text == context[start:end]`."""

    text: str = Field(description="The answer, empty for the empty answer.")
    score: float = Field(description="Probability, 0 to 1.")
    start: int = Field(description="Where it starts in the context.")
    end: int = Field(description="One past its end.")


class ModelOut(BaseModel):
    """What answered."""

    name: str
    version: str


class RoutingOut(BaseModel):
    """How a request was routed; the same as in the headers."""

    length_config: str = Field(description="Length configuration that answered.")
    expected_f1: float = Field(description="Its F1 on held-out questions.")
    predicted_latency_ms: float = Field(description="Arrival to answer as predicted at dispatch, upper quantile.")
    latency_ms: float = Field(description="Arrival to answer as observed.")
    budget_ms: float | None = Field(description="Latency budget; null without one.")
    budget_met: bool | None = Field(description="Whether the answer was there in time; null without a budget.")
    reason: str = Field(description="Why this configuration.")


class _Answered(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: ModelOut
    length_config: str = Field(description="Length configuration that the question was run under.")
    windows: int = Field(description="Windows that the contexts were cut into.")
    routing: RoutingOut | None = Field(None, description="How the request was routed, when asked for.")


class QaResponse(_Answered):
    """Answers, best first."""

    answers: list[AnswerOut]


class BatchResponse(_Answered):
    """One list of answers per item, in the order of the items."""

    answers: list[list[AnswerOut]]


class TaskAnswer(BaseModel):
    """One answer in the Hugging Face form; the response is a list of these."""

    answer: str
    score: float
    start: int
    end: int
