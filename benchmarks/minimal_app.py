"""What one would write in an afternoon: FastAPI around ONNX Runtime.  The opponent of `benchmarks.http`.

No admission, no queue, no budgets, no checks beyond pydantic's: one endpoint, ``POST /qa``, that cuts the text into
windows with the tokenizer's own truncation, runs them one by one, and takes the best span. ``python -m
benchmarks.minimal_app ONNX TOKENIZER PORT THREADS``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Encoding, Tokenizer

MAX_LENGTH, OVERLAP, MAX_ANSWER = 384, 128, 30


class Question(BaseModel):
    """What is asked."""

    question: str
    context: str


class Answer(BaseModel):
    """What was found; offsets in code points, `end` exclusive."""

    answer: str
    score: float
    start: int
    end: int


def create_app(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> FastAPI:
    """The app; `tokenizer` is told to truncate."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH, stride=OVERLAP, strategy="only_second")
    app = FastAPI()

    @app.get("/health/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/qa")
    def answer(asked: Question) -> Answer:
        encoding = tokenizer.encode(asked.question, asked.context)
        found = [best_span(session, each) for each in (encoding, *encoding.overflowing)]
        score, start, end = max(found)
        return Answer(answer=asked.context[start:end], score=score, start=start, end=end)

    return app


def best_span(session: onnxruntime.InferenceSession, encoding: Encoding) -> tuple[float, int, int]:
    """Logit sum, first code point and the one past the last of the best span of one window."""
    ids = np.array([encoding.ids], dtype=np.int64)
    mask = np.array([encoding.attention_mask], dtype=np.int64)
    segments = np.array([encoding.type_ids], dtype=np.int64)
    start, end = session.run(["start", "end"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})
    in_context = np.array(encoding.sequence_ids) == 1
    sums = np.where(in_context, start[0], -np.inf)[:, None] + np.where(in_context, end[0], -np.inf)[None]
    spans = np.triu(np.ones(sums.shape, dtype=bool)) & ~np.triu(np.ones(sums.shape, dtype=bool), MAX_ANSWER)
    sums = np.where(spans, sums, -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(sums[first, last]), encoding.offsets[first][0], encoding.offsets[last][1]


def main() -> None:
    """Serve until told to stop."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[4])
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    app = create_app(session, Tokenizer.from_file(str(Path(sys.argv[2]))))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
