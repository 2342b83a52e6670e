"""What is said of replies, by hand."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import promises
from benchmarks.promise import budgets, dispatch, hog, pinned
from benchmarks.promise.client import FastClient, Reply, parsed, prepared
from benchmarks.server_process import BenchmarkError
from benchmarks.workload import EXCERPT, Asked
from server.settings import packaged_store

MS = 1_000_000
SECOND = 1_000 * MS
IDS = ("c02", "c01", "full")
SETUP = pinned.Setup("default", packaged_store(), EXCERPT)


def answer(latency_ms: float, configuration: str = "full", f1: float = 80.0, at_s: float = 0.0) -> Reply:
    """A reply that came at `at_s`."""
    received_ns = round(at_s * SECOND)
    return Reply(200, received_ns - round(latency_ms * MS), received_ns, configuration, f1, 12.0, latency_ms - 1.0)


# budgets


def test_each_budget_has_a_block_in_every_round_and_its_requests_in_all() -> None:
    blocks = budgets.schedule(3, 45, seed=7, block=20)
    assert [count for _, count in blocks] == [20] * 6 + [5] * 3
    assert [sorted(kind for kind, _ in blocks[start : start + 3]) for start in (0, 3, 6)] == [[0, 1, 2]] * 3
    assert blocks == budgets.schedule(3, 45, seed=7, block=20)
    assert blocks != budgets.schedule(3, 45, seed=8, block=20)


def test_replies_are_kept_apart_by_budget() -> None:
    asked = []

    def ask(request: bytes) -> Reply:
        asked.append(request)
        return answer(float(request))

    replies = budgets.ask_in_blocks(ask, [b"1", b"2"], [(1, 2), (0, 1), (1, 1)])
    assert asked == [b"2", b"2", b"1", b"2"]
    assert [[reply.latency_ms for reply in each] for each in replies] == [[1.0], [2.0, 2.0, 2.0]]


def test_a_refusal_is_a_miss_and_one_that_was_taken_and_dropped_too() -> None:
    replies = [
        *(answer(9.0, "c01", 70.0), answer(10.0), answer(10.5)),
        *(Reply(503, 0, MS), Reply(422, 0, MS), Reply(504, 0, 9 * MS)),
    ]
    found = budgets.summary(10.0, replies)
    assert found["within_budget"] == {"of_all": 0.3333, "of_admitted": 0.5}  # 2 of 6; of 3 answers and one dropped
    assert found["statuses"] == {"200": 3, "422": 1, "503": 1, "504": 1}
    assert found["expected_f1"] == pytest.approx(76.667)
    assert found["configurations"] == {"full": 2, "c01": 1}
    assert found["client_ms"]["p50"] == 10.0
    assert found["predicted_ms"] == {"p50": 12.0}
    assert found["unseen_ms"]["p50"] == 1.0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_any_answer_there_are_no_figures() -> None:
    found = budgets.summary(10.0, [Reply(503, 0, MS)])
    assert found["within_budget"] == {"of_all": 0.0, "of_admitted": None}
    assert (found["expected_f1"], found["client_ms"], found["predicted_ms"]) == (None, {}, {})


def kept(within: float, f1: float | None) -> dict[str, Any]:
    return {"budget_ms": 10.0, "within_budget": {"of_all": within}, "expected_f1": f1}


@pytest.mark.parametrize(
    ("found", "points", "named"),
    [
        ([kept(0.99, 70.0), kept(1.0, 75.0), kept(1.0, 80.0)], 12, []),
        ([kept(0.989, 70.0), kept(1.0, 75.0), kept(1.0, 80.0)], 12, ["0.989 within"]),
        ([kept(1.0, 70.0), kept(1.0, 81.0), kept(1.0, 80.0)], 12, ["falls"]),
        ([kept(1.0, 80.0), kept(1.0, 80.0), kept(1.0, 80.0)], 1, []),
        ([kept(1.0, 80.0), kept(1.0, 80.0), kept(1.0, 80.0)], 2, ["does not rise"]),
        ([kept(0.0, None), kept(1.0, 80.0), kept(1.0, 81.0)], 2, ["0.0 within", "does not rise"]),
    ],
)
def test_each_limit_on_budgets_is_named_when_broken(found: list[dict[str, Any]], points: int, named: list[str]) -> None:
    broken = budgets.breaches(found, points)
    assert len(broken) == len(named)
    assert all(words in breach for words, breach in zip(named, broken, strict=True))


# hog


def run_of(*parts: tuple[float, str], hog_s: float = 6.0) -> hog.Run:
    """A reply every 100 ms from -2 s to 12 s, its configuration the last of `parts`; the hog runs from 0 to `hog_s`."""
    replies = []
    for step in range(-20, 121):
        now = step / 10
        name = [configuration for start, configuration in parts if start <= now][-1]
        replies.append(answer(100.0, name, at_s=now))
    return hog.Run(replies, 0, round(hog_s * SECOND))


def test_times_of_the_switches_are_counted_from_the_hogs_start_and_end() -> None:
    found = hog.summary(run_of((-2, "full"), (0.8, "c01"), (2.1, "c02"), (9.0, "c01"), (10.5, "full")), IDS)
    assert found["usual"] == "full"
    assert found["cheaper_after_s"] == 0.8
    assert found["settled_after_s"] == 2.1
    assert found["back_after_s"] == 4.5
    assert found["switches"] == {"hog": 2, "before": 0, "after": 2}
    assert found["most_switches_in_a_second"] == 1
    assert found["configurations"]["hog"] == {"c02": 39, "c01": 13, "full": 8}
    assert hog.breaches(found) == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_change_on_the_hogs_first_reply_is_a_switch() -> None:
    found = hog.summary(run_of((-2, "full"), (0.0, "c01"), (6.0, "full")), IDS)
    assert (found["cheaper_after_s"], found["back_after_s"], found["switches"]["hog"]) == (0.0, 0.0, 1)


def test_to_and_fro_and_slowness_break_the_limits() -> None:
    late = hog.summary(run_of((-2, "full"), (2.1, "c01"), (2.5, "full"), (2.9, "c01"), (11.5, "full")), IDS)
    assert late["most_switches_in_a_second"] == 3  # at 2.1, 2.5 and 2.9: 0.9 s from the first request to the last reply
    assert [words.split(":")[0][:20] for words in hog.breaches(late)] == [
        *("the first cheaper an", "back at the usual co", "3 switches within a "),
    ]


def test_what_never_happens_breaks_the_limits() -> None:
    never = hog.summary(run_of((-2, "full")), IDS)
    assert (never["cheaper_after_s"], never["settled_after_s"], never["back_after_s"]) == (None, None, 0.0)
    assert "never" in hog.breaches(never)[0]
    stuck = hog.summary(run_of((-2, "full"), (1.0, "c01")), IDS)
    assert stuck["back_after_s"] is None
    assert len(hog.breaches(stuck)) == 1


def test_switches_count_together_only_if_they_certainly_lie_within_a_second() -> None:
    def at(start_s: float) -> hog.Switch:
        return hog.Switch(round((start_s - 0.05) * SECOND), round(start_s * SECOND))

    assert hog.most_in_a_second([]) == 0
    assert hog.most_in_a_second([at(1.0), at(1.96), at(2.92)]) == 1
    assert hog.most_in_a_second([at(1.0), at(1.95), at(2.92)]) == 2


def test_a_host_that_is_busy_before_the_hog_gives_no_measurement() -> None:
    with pytest.raises(BenchmarkError, match="already the cheapest"):
        hog.summary(run_of((-2, "c02")), IDS)
    with pytest.raises(BenchmarkError, match="no answer"):
        hog.summary(hog.Run([], 0, SECOND), IDS)


def test_a_failed_request_breaks_the_limits() -> None:
    run = run_of((-2, "full"), (1.0, "c01"), (6.0, "full"))
    run.replies.append(Reply(503, 0, 12 * SECOND))
    assert "503" in hog.breaches(hog.summary(run, IDS))[0]


def test_records_are_written_a_line_each(tmp_path: Path) -> None:
    hog.write_records(tmp_path / "r.csv", hog.Run([answer(100.0, "c01", at_s=1.5), Reply(0, 0, 0)], SECOND, SECOND))
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert lines == ["seconds,status,length_config,latency_ms", "0.5000,200,c01,100.000", "-1.0000,0,,0.000"]


def test_a_model_of_one_configuration_cannot_show_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hog, "configuration_ids", lambda _setup: ("full",))
    done = CliRunner().invoke(promises.app, ["hog"])
    assert done.exit_code == 2
    assert "one length configuration" in done.output


# text, cores, client, dispatch


def test_the_text_is_the_one_nearest_to_170_tokens() -> None:
    text = pinned.chosen_text(SETUP)
    assert abs(text.tokens - pinned.TOKENS) <= 10
    assert text.source.startswith("squad-dev-excerpt.json.gz, ")
    assert pinned.chosen_text(SETUP, 1).tokens < text.tokens


def test_the_client_needs_a_core_of_its_own() -> None:
    same = pinned.Setup("default", packaged_store(), EXCERPT, server_core=0, client_core=0)
    with pytest.raises(BenchmarkError, match="core of its own"), pinned.pinned_server(same):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_a_core_is_held_for_a_while_and_must_exist() -> None:
    before = os.sched_getaffinity(0)
    with pinned.on_core(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(BenchmarkError, match="core 99999"), pinned.on_core(99_999):
        pass


@contextmanager
def responder(*responses: bytes) -> Iterator[int]:
    """A port on which each connection gets one of `responses` to its first bytes, in small pieces."""

    def serve() -> None:
        for response in responses:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                for start in range(0, len(response), 7):
                    connection.sendall(response[start : start + 7])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_the_client_reads_whole_responses_and_connects_again() -> None:
    good = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-length-config: c01\r\nx-expected-f1: 70.5\r\nconnection: close\r\n"
    )
    good += b"server-timing: queue;dur=1.000, total;dur=9.500\r\nx-predicted-latency-ms: 11.250\r\n\r\nabc"
    with responder(good, b"HTTP/1.1 503 No\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as port:
        client = FastClient(port)
        first, broken, last = (client.ask(b"x") for _ in range(3))
        client.close()
    assert (first.status, first.configuration, first.expected_f1) == (200, "c01", 70.5)
    assert (first.predicted_ms, first.server_ms) == (11.25, 9.5)
    assert first.latency_ms > 0
    assert (broken.status, last.status) == (0, 503)


def test_a_connection_stays_open_unless_the_server_ends_it() -> None:
    assert not parsed(b"HTTP/1.1 422 No\r\n\r\n", 0, 1)[1]
    assert parsed(b"HTTP/1.1 422 No\r\nConnection: Close\r\n\r\n", 0, 1)[1]


def test_requests_are_made_once_and_say_how_long_they_are() -> None:
    raw = prepared(Asked("Wo?", "É."), {"X-Latency-Budget-ms": "10.500"})
    head, _, body = raw.partition(b"\r\n\r\n")
    assert json.loads(body) == {"question": "Wo?", "context": "É."}
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"\r\nX-Latency-Budget-ms: 10.500" in head


def test_the_router_is_timed_beside_a_full_queue() -> None:
    options = dispatch.DispatchOptions(rounds=30, queued=50)
    found = dispatch.measure(packaged_store(), "default", options)
    assert found["configurations"] >= 12
    assert 0 < found["admit_and_dispatch_us"]["p50"] <= found["admit_and_dispatch_us"]["p95"]
    assert dispatch.breaches({"admit_and_dispatch_us": {"p50": 100.0}}) == []
    assert dispatch.breaches({"admit_and_dispatch_us": {"p50": 100.1}}) != []
    bench = dispatch.Bench(dispatch._world(packaged_store(), "default"), options)
    bench.fill()
    bench.round_us()
    assert bench.router.waiting == 50
