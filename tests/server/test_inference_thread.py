from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from server.inference_thread import InferenceThread


def test_calls_are_made_one_after_the_other_on_one_other_thread() -> None:
    seen: list[tuple[int, int]] = []
    with InferenceThread() as thread:
        for number in range(5):
            thread.post(lambda number=number: seen.append((number, threading.get_ident())))  # type: ignore[misc]
        assert thread.submit(pow, 2, 10).result() == 1024
    assert [number for number, _ in seen] == list(range(5))
    assert len({ident for _, ident in seen} | {threading.get_ident()}) == 2


def test_what_a_call_raises_is_the_callers() -> None:
    with InferenceThread() as thread:
        with pytest.raises(ZeroDivisionError):
            thread.submit(divmod, 1, 0).result()
        assert thread.submit(int).result() == 0


def test_a_cancelled_call_is_not_made() -> None:
    gate, seen = threading.Event(), list[int]()
    with InferenceThread() as thread:
        thread.post(gate.wait)
        assert thread.submit(seen.append, 1).cancel()
        gate.set()
    assert seen == []


def test_after_shutdown_calls_are_refused_and_those_taken_are_made() -> None:
    gate, seen = threading.Event(), list[int]()
    thread = InferenceThread()
    thread.post(gate.wait)
    thread.post(lambda: seen.append(1))
    thread.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shut down"):
        thread.post(int)
    gate.set()
    thread.shutdown()
    assert seen == [1]


def test_a_thread_that_was_never_used_can_be_shut_down() -> None:
    InferenceThread().shutdown()


@pytest.mark.parametrize("end", ["", "thread.shutdown(wait=False)"])
def test_a_process_ends_after_the_present_call(end: str) -> None:
    program = f"""
import time
from server.inference_thread import InferenceThread
thread = InferenceThread()
thread.post(lambda: (time.sleep(0.2), print("made")))
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")
