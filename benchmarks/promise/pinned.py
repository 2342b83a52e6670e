"""A server on one core, its client on another, and one text to ask about."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Document, say
from benchmarks.server_process import (
    BenchmarkError,
    ServerProcess,
    free_port,
    leeway,
    leeway_serve,
    without_settings,
)
from benchmarks.workload import Asked
from model_store import ModelStore
from reading import TextTokenizer, load_squad

TOKENS = 170
"""Of the window that is asked about: the mean of SQuAD 1.1."""

_SPECIAL = 3  # [CLS] question [SEP] context [SEP]
_GIVE_UP_SECONDS = 600.0
_ERROR_LINES = 5


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and where it runs.

    Attributes:
        model: NAME or NAME@VERSION.
        store: where it is.
        data: file in SQuAD format that the text is taken from.
        server_core: number of the core for the server, its calibration and the hog.
        client_core: number of the core for this process.
        calibrate: measure the host before the server starts; else the server probes it as it starts.
        calibration_seconds: for that, at most.
    """

    model: str
    store: Path
    data: Path
    server_core: int = 0
    client_core: int = 1
    calibrate: bool = True
    calibration_seconds: float = 100.0


@dataclass(frozen=True, slots=True)
class PinnedServer:
    """Where it listens on the loopback address, and its process."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Text:
    """The one question that is asked again and again.

    Attributes:
        asked: question and context.
        source: file, article and question id.
        tokens: of its window, special tokens included.
    """

    asked: Asked
    source: str
    tokens: int

    def document(self) -> Document:
        """Which text it was."""
        return {"source": self.source, "tokens": self.tokens, "context_chars": len(self.asked.context)}


def chosen_text(setup: Setup, tokens: int = TOKENS) -> Text:
    """The question of the data whose window comes nearest to `tokens`; of equals the first."""
    tokenizer = TextTokenizer.from_file(ModelStore(setup.store).load(setup.model, verify_digests=False).tokenizer_path)
    texts = (
        Text(
            Asked(question.text, paragraph.context),
            f"{setup.data.name}, {article.title}, {question.id}",
            len(tokenizer.encode(question.text)) + context + _SPECIAL,
        )
        for article in load_squad(setup.data).articles
        for paragraph in article.paragraphs
        for context in (len(tokenizer.encode(paragraph.context)),)
        for question in paragraph.questions
    )
    nearest = min(texts, key=lambda text: abs(text.tokens - tokens), default=None)
    if nearest is None:
        raise BenchmarkError(f"{setup.data.name} has no questions")
    return nearest


def configuration_ids(setup: Setup) -> tuple[str, ...]:
    """The model's length configurations, cheapest first."""
    table = ModelStore(setup.store).load(setup.model, verify_digests=False).table
    return tuple(point.id for point in table.points)


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and processes that it starts meanwhile, on one core.

    Raises:
        BenchmarkError: the system cannot pin, or not to this core.
    """
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError, ValueError) as error:
        raise BenchmarkError(f"cannot pin to core {core}: {error}") from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def pinned_server(setup: Setup) -> Iterator[PinnedServer]:
    """A server that is ready, on its core with one thread; the body runs on the client's core.

    The latency profile is made for the occasion and thrown away.

    Raises:
        BenchmarkError: both cores are the same, or calibration or server did not come to an end or a start.
    """
    if setup.server_core == setup.client_core:
        raise BenchmarkError("the client needs a core of its own: --client-core and --server-core are the same")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        where = ("--store", str(setup.store.absolute()), "--model", setup.model)
        options = (*where, "--threads", "1", "--profile-dir", folder)
        with contextlib.ExitStack() as stack:
            with on_core(setup.server_core):
                if setup.calibrate:
                    _calibrate(setup.calibration_seconds, options)
                server = stack.enter_context(ServerProcess(leeway_serve(port, *options), port))
            stack.enter_context(on_core(setup.client_core))
            say(f"ready after {server.wait_ready(_GIVE_UP_SECONDS):.1f} s")
            yield PinnedServer(port, server.pid)


def _calibrate(seconds: float, options: tuple[str, ...]) -> None:
    say(f"calibrating for {seconds:g} s at most")
    done = subprocess.run(  # noqa: S603 - the command is this project's own
        leeway("calibrate", "--seconds", f"{seconds:g}", *options),
        env=without_settings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stderr.splitlines()[-_ERROR_LINES:])
        raise BenchmarkError(f"leeway calibrate ended with status {done.returncode}:\n{end}")
