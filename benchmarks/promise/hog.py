"""Do requests without a budget get cheaper while another process takes the CPU, soon, and without to and fro?"""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from benchmarks.promise.client import FastClient, Reply, prepared
from benchmarks.promise.figures import configurations, percentiles, statuses
from benchmarks.promise.pinned import Setup, chosen_text, configuration_ids, on_core, pinned_server
from benchmarks.report import Document, say
from benchmarks.server_process import BenchmarkError

MOST_SECONDS_TO_CHEAPEN = 2.0
MOST_SECONDS_TO_RECOVER = 5.0
MOST_SWITCHES_A_SECOND = 1

_SECOND_NS = 1_000_000_000
_BUSY = "while True: pass"


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds before the hog, with it, and after it.

    All three must add up to less than a minute: after that the server tries configurations that it has not used.
    """

    before: float = 8.0
    hog: float = 15.0
    after: float = 12.0


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen.

    Attributes:
        replies: in their order, one after the other.
        started_ns: when the hog was started, monotonic.
        ended_ns: when it was ended.
    """

    replies: list[Reply] = field(default_factory=list)
    started_ns: int = 0
    ended_ns: int = 0

    def parts(self) -> tuple[list[Reply], list[Reply], list[Reply]]:
        """Replies that came before the hog was started, while it ran, and after it was ended."""
        before = [reply for reply in self.replies if reply.received_ns < self.started_ns]
        during = [reply for reply in self.replies if self.started_ns <= reply.received_ns < self.ended_ns]
        return before, during, [reply for reply in self.replies if reply.received_ns >= self.ended_ns]


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of the configuration between two replies; when it was decided is known to lie between two moments.

    Attributes:
        earliest_ns: when the request before it was sent.
        latest_ns: when the reply with the new configuration had come.
    """

    earliest_ns: int
    latest_ns: int


def measure(setup: Setup, phases: Phases, records: Path | None = None) -> Document:
    """One question after the other, with and without the hog.

    Raises:
        BenchmarkError: there is nothing to switch between, or the server cannot be started.
    """
    text, ids = chosen_text(setup), configuration_ids(setup)
    if len(ids) < 2:
        raise BenchmarkError(f"{setup.model} has one length configuration: there is nothing cheaper to measure")
    with pinned_server(setup) as server:
        client, request = FastClient(server.port), prepared(text.asked)
        run = record(lambda: client.ask(request), setup.server_core, phases)
        client.close()
    if records is not None:
        write_records(records, run)
    found = summary(run, ids)
    return {
        "benchmark": "hog",
        "model": setup.model,
        "length_configurations": len(ids),
        "text": text.document(),
        "calibrated": setup.calibrate,
        "seconds": {"before": phases.before, "hog": phases.hog, "after": phases.after},
        **found,
        "broken": breaches(found),
    }


def record(ask: Callable[[], Reply], core: int, phases: Phases) -> Run:
    """Ask without a pause through all phases."""
    replies = list(_until(ask, time.monotonic_ns() + round(phases.before * 1e9)))
    say(f"{len(replies)} requests before the hog")
    started_ns = time.monotonic_ns()
    with busy_loop(core):
        replies += _until(ask, started_ns + round(phases.hog * 1e9))
        ended_ns = time.monotonic_ns()
    say("the hog has ended")
    replies += _until(ask, ended_ns + round(phases.after * 1e9))
    return Run(replies, started_ns, ended_ns)


def _until(ask: Callable[[], Reply], end_ns: int) -> Iterator[Reply]:
    while time.monotonic_ns() < end_ns:
        yield ask()


@contextlib.contextmanager
def busy_loop(core: int) -> Iterator[None]:
    """A process that takes all it can get of `core`, as nice as this one."""
    with on_core(core):
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", _BUSY])  # noqa: S603 - a constant
    try:
        yield
    finally:
        process.kill()
        process.wait()


def summary(run: Run, ids: Sequence[str]) -> Document:
    """How soon and how often the configuration changed; `ids` are cheapest first.

    Raises:
        BenchmarkError: no answer before the hog, or nothing cheaper than those.
    """
    before, during, after = ([reply for reply in part if reply.status == 200] for part in run.parts())
    rank = {name: place for place, name in enumerate(ids)}
    usual = usual_configuration(before)
    if rank[usual] == 0:
        raise BenchmarkError("already the cheapest configuration answers before the hog: is something else running?")
    cheaper = first_at(during, lambda reply: rank[str(reply.configuration)] < rank[usual])
    back = first_at(after, lambda reply: rank[str(reply.configuration)] >= rank[usual])
    changes = switches([*before[-1:], *during])
    return {
        "statuses": statuses(run.replies),
        "usual": usual,
        "cheaper_after_s": _seconds(cheaper, run.started_ns),
        "settled_after_s": _seconds(changes[-1].latest_ns, run.started_ns) if cheaper is not None else None,
        "back_after_s": _seconds(back, run.ended_ns),
        "switches": {"hog": len(changes), "before": len(switches(before)), "after": len(switches(after))},
        "most_switches_in_a_second": most_in_a_second(changes),
        "configurations": {
            name: configurations(part) for name, part in (("before", before), ("hog", during), ("after", after))
        },
        "client_ms": {
            name: percentiles([reply.latency_ms for reply in part])
            for name, part in (("before", before), ("hog", during), ("after", after))
        },
    }


def usual_configuration(replies: Sequence[Reply]) -> str:
    """The one that answered most of `replies`, all with status 200."""
    if not replies:
        raise BenchmarkError("no answer came before the hog was started")
    return Counter(str(reply.configuration) for reply in replies).most_common(1)[0][0]


def first_at(replies: Sequence[Reply], wanted: Callable[[Reply], bool]) -> int | None:
    """When the first reply that is `wanted` had come; None if none is."""
    return next((reply.received_ns for reply in replies if wanted(reply)), None)


def switches(replies: Sequence[Reply]) -> list[Switch]:
    """Every change of the configuration from one of `replies` to the next."""
    return [
        Switch(earlier.sent_ns, later.received_ns)
        for earlier, later in pairwise(replies)
        if earlier.configuration != later.configuration
    ]


def most_in_a_second(changes: Sequence[Switch]) -> int:
    """Most switches that certainly lie within one second, wherever it begins."""
    return max(
        (
            sum(change.latest_ns - first.earliest_ns <= _SECOND_NS for change in changes[place:])
            for place, first in enumerate(changes)
        ),
        default=0,
    )


def breaches(found: Document) -> list[str]:
    """The limits that were broken."""
    broken = []
    for key, what, limit in (
        ("cheaper_after_s", "the first cheaper answer after the hog's start", MOST_SECONDS_TO_CHEAPEN),
        ("back_after_s", "back at the usual configuration after the hog's end", MOST_SECONDS_TO_RECOVER),
    ):
        seconds = found[key]
        if seconds is None:
            broken.append(f"{what}: never, within {limit:g} s wanted")
        elif seconds > limit:
            broken.append(f"{what}: {seconds:.2f} s, at most {limit:g}")
    most = found["most_switches_in_a_second"]
    if most > MOST_SWITCHES_A_SECOND:
        broken.append(f"{most} switches within a second, at most {MOST_SWITCHES_A_SECOND}")
    if set(found["statuses"]) != {"200"}:
        broken.append(f"requests without a 200, by status: {found['statuses']}")
    return broken


def write_records(path: Path, run: Run) -> None:
    """Every reply: seconds from the hog's start to its end, configuration, milliseconds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", "status", "length_config", "latency_ms"))
        for reply in run.replies:
            at_s = (reply.received_ns - run.started_ns) / 1e9
            rows.writerow((f"{at_s:.4f}", reply.status, reply.configuration or "", f"{reply.latency_ms:.3f}"))


def _seconds(at_ns: int | None, since_ns: int) -> float | None:
    return None if at_ns is None else round((at_ns - since_ns) / 1e9, 3)
