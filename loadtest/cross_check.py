"""Does an independent open-loop generator see the same?  ``python -m loadtest.cross_check --host http://127.0.0.1:8000``.

h2load (nghttp2; Debian's nghttp2-client) and Locust with our generator take turns: the same question at the same
constant rate.  h2load's ``--rps`` is per connection, so its connections are opened one after the other, one gap of the
whole rate apart: together they send evenly, and no request waits while answers come within connections / rate.  It
measures from sending, so our latencies from sending are compared.  Needs the extra ``loadtest`` and h2load.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from loadtest.client import Target, TargetError
from loadtest.mixes import Budget, make_asks, places_of
from loadtest.scenario import Scenario, read_scenario
from reading import load_squad

_SCENARIO = """
name = "cross_check"
about = "One question at a constant rate, for the comparison with h2load."
[arrivals]
process = "constant"
phases = [{{ seconds = {seconds}, rate = {rate} }}]
[questions]
distinct = 1
[[budgets]]
label = "none"
share = 1.0
[generator]
max_lag_p99_ms = {max_lag}
[limits]
min_slo_attainment = 1.0
"""
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


class CheckError(Exception):
    """A comparison that could not be made."""


def h2load_p50_ms(log: str) -> float:
    """Median of h2load's log: lines of start in us, status, and time in us, with tabs between.

    Raises:
        CheckError: no line, or a status that is not 200.
    """
    rows = [line.split("\t") for line in log.splitlines()]
    if not rows or any(len(row) != 3 or row[1] != "200" for row in rows):
        raise CheckError("h2load did not get a 200 for every request")
    return median(int(row[2]) for row in rows) / 1e3


def verdict(ours: Sequence[float], theirs: Sequence[float], limit: float) -> dict[str, object]:
    """The medians over the rounds compared; ``passed`` if they differ by at most `limit`, as a share of theirs."""
    difference = median(ours) / median(theirs) - 1.0
    return {
        "ours_p50_ms": list(ours),
        "h2load_p50_ms": list(theirs),
        "difference": difference,
        "limit": limit,
        "passed": abs(difference) <= limit,
    }


def h2load_command(target: Target, rate: float, seconds: float, clients: int, folder: Path) -> list[str]:
    """Its command line; reads ``body.json`` and writes ``h2load.log`` in `folder`."""
    return [
        "h2load",
        "--h1",
        "--threads=1",
        f"--clients={clients}",
        f"--rps={rate / clients:g}",
        "--rate=1",
        f"--rate-period={max(1, round(1000 / rate))}ms",
        f"--requests={round(rate * seconds)}",
        "--header=Content-Type: application/json",
        f"--data={folder / 'body.json'}",
        f"--log-file={folder / 'h2load.log'}",
        f"http://{target.host}:{target.port}/qa",
    ]


def locust_command(host: str, squad: Path | None, folder: Path) -> list[str]:
    """Its command line; reads ``cross_check.toml`` and writes ``cross_check.json`` in `folder`."""
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--host", host, "--scenario", str(folder / "cross_check.toml"), "--report-dir", str(folder)]
    return command if squad is None else [*command, "--squad", str(squad)]


def body_of(scenario: Scenario, squad: Path) -> bytes:
    """The body of the one question that `scenario` asks."""
    (ask,) = make_asks(scenario, places_of(load_squad(squad)), [Budget("none", None)], 1)
    return json.dumps({"question": ask.record.question, "context": ask.context}).encode()


def main(  # noqa: PLR0913, PLR0917 - options
    host: Annotated[str, typer.Option(help="Server, http://HOST:PORT.")] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each turn.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each generator.")] = 3,
    clients: Annotated[int, typer.Option(min=1, help="Connections of h2load.")] = 8,
    limit: Annotated[float, typer.Option(min=0, help="Largest difference of the p50, as a share.")] = 0.10,
    max_lag: Annotated[float, typer.Option(min=0.001, help="Largest p99 of our generator's lag, ms.")] = 10.0,
    squad: Annotated[Path | None, typer.Option(help="Questions in SQuAD format; an excerpt if not given.")] = None,
) -> None:
    """Compare the p50 of both; one JSON document.  Exit status 1 if they differ, 2 if they could not be compared."""
    try:
        toml = _SCENARIO.format(seconds=seconds, rate=rate, max_lag=max_lag)
        theirs_of = partial(h2load_command, Target.of(host), rate, seconds, clients)
        found = verdict(*_turns(toml, theirs_of, host, squad, rounds), limit)
    except (CheckError, TargetError, OSError, ValueError) as error:
        typer.echo(f"cross_check: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(json.dumps(found))
    raise typer.Exit(0 if found["passed"] else 1)


def _turns(
    toml: str, theirs_of: Callable[[Path], list[str]], host: str, squad: Path | None, rounds: int
) -> tuple[list[float], list[float]]:
    """Both p50 of every turn, in milliseconds: ours, theirs."""
    ours, theirs = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = folder / "cross_check.toml"
        scenario.write_text(toml, encoding="utf-8")
        excerpt = _LOCUSTFILE.parents[1] / "tests" / "data" / "squad-dev-excerpt.json.gz"
        (folder / "body.json").write_bytes(body_of(read_scenario(scenario), squad or excerpt))
        log, report = folder / "h2load.log", folder / "cross_check.json"
        for turn in range(rounds):
            _run(theirs_of(folder))
            theirs.append(h2load_p50_ms(log.read_text(encoding="utf-8")))
            _run(locust_command(host, squad, folder))
            ours.append(json.loads(report.read_text(encoding="utf-8"))["latency_from_sending_ms"]["p50"])
            typer.echo(f"turn {turn + 1}: p50 {ours[-1]:.2f} ms, h2load {theirs[-1]:.2f} ms", err=True)
            log.unlink()
            report.unlink()
    return ours, theirs


def _run(command: Sequence[str]) -> None:
    """Run `command`, which must succeed.

    Raises:
        CheckError: it did not; with the end of what it said.
        OSError: it is not installed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - made above
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        said = [line for line in lines if "leeway.loadtest" in line] or lines  # not Locust's tables
        raise CheckError(f"{command[0]} ended with status {done.returncode}: " + "; ".join(said[-3:]))


if __name__ == "__main__":
    typer.run(main)
