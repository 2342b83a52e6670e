from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.client import Target
from loadtest.cross_check import CheckError, h2load_command, h2load_p50_ms, verdict


def test_the_log_of_h2load() -> None:
    assert h2load_p50_ms("1\t200\t3000\n2\t200\t1000\n3\t200\t2500\n") == 2.5


@pytest.mark.parametrize("log", ["", "1\t503\t10\n", "1\t200\n"])
def test_a_log_with_anything_but_answers_is_refused(log: str) -> None:
    with pytest.raises(CheckError):
        h2load_p50_ms(log)


def test_the_verdict() -> None:
    assert verdict([10.0, 10.9, 30.0], [10.0, 10.0, 10.0], 0.1)["passed"] is True
    assert verdict([8.9], [10.0], 0.1)["passed"] is False
    assert verdict([11.1], [10.0], 0.1)["passed"] is False


def test_connections_share_the_rate_and_begin_one_gap_apart() -> None:
    command = h2load_command(Target("h", 80), 20.0, 10.0, 8, Path("folder"))
    assert {"--clients=8", "--rps=2.5", "--rate=1", "--rate-period=50ms", "--requests=200"} <= set(command)
