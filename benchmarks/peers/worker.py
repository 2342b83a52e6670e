"""A process with one model in one runtime, which answers requests on stdin: ``python -m benchmarks.peers.worker``.

The argument is a JSON object: ``cores``, and what `runners.create_runner` takes.  One line of JSON each way. First
``{"ready": facts}``, or ``{"unavailable": reason}`` and the end. Then, for each request, one reply:

- ``{"op": "warm_up", "config": C}`` -> ``{"facts": facts}``;
- ``{"op": "run", "config": C, "questions": [[piece, ...], ...], "logits": bool}`` -> ``{"ns": [integer per question],
  "logits": [[[start, end], ...], ...] or null}``, pieces as `pieces.Piece.to_json` writes them. The time of a question
  is that from its windows' token ids to their logits;
- anything that fails -> ``{"error": reason}``.

The end of stdin is the end of the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, BinaryIO

from benchmarks.peers.pieces import Piece
from benchmarks.peers.runners import Runner, create_runner


def serve(runner: Runner, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        try:
            reply = handle(runner, json.loads(line))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        _send(replies, reply)


def handle(runner: Runner, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request.

    Raises:
        ValueError: no such request, or what the runner refuses.
    """
    config = request["config"]
    if request["op"] == "warm_up":
        runner.warm_up(config)
        return {"facts": runner.facts}
    if request["op"] != "run":
        raise ValueError(f"there is no request {request['op']!r}")
    times, logits = [], []
    for question in request["questions"]:
        pieces = [Piece.from_json(piece) for piece in question]
        began = time.monotonic_ns()
        found = runner.run(pieces, config)
        times.append(time.monotonic_ns() - began)
        if request["logits"]:
            logits.append([[start.tolist(), end.tolist()] for start, end in found])
    return {"ns": times, "logits": logits if request["logits"] else None}


def main() -> None:
    """Load what the argument names, say so, and serve."""
    settings = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print; the protocol has a descriptor of its own
    if settings.get("cores"):
        os.sched_setaffinity(0, settings["cores"])
    from server.engine.interface import EngineUnavailableError

    try:
        runner = create_runner(settings)
    except (ImportError, EngineUnavailableError) as error:
        _send(replies, {"unavailable": f"{error}"})
        return
    _send(replies, {"ready": runner.facts})
    serve(runner, sys.stdin.buffer, replies)


def _send(replies: BinaryIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
