"""The routing under a virtual clock, against other systems' policies.  ``python -m benchmarks.simulate``.

Runs the server's own admission, queue, policy and latency model, and the policies of `benchmarks.simulation.baselines`
and `.intervals` in place of ours, through seeded traces; service times are drawn from a latency profile's residuals.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import Document, finish, plain_errors, say
from benchmarks.simulation.checks import Results, checks
from benchmarks.simulation.contest import POLICIES, contest
from benchmarks.simulation.host import StallRate
from benchmarks.simulation.plots import plot
from benchmarks.simulation.scores import Scores
from benchmarks.simulation.tables import table, traces_document
from benchmarks.simulation.trace import SPECS
from benchmarks.simulation.world import World, load_world
from server.settings import packaged_store

QUICK_SECONDS = 30.0
_MOST_WORKERS = 2


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What is run.

    Attributes:
        traces: names.
        policies: names.
        seeds: of each trace, from 0.
        seconds: stop each trace after that many; None runs it whole.
        workers: processes.
        stalls: of the host; the traces that the checks are about have none.
    """

    traces: tuple[str, ...] = tuple(SPECS)
    policies: tuple[str, ...] = POLICIES
    seeds: int = 5
    seconds: float | None = None
    workers: int = _MOST_WORKERS
    stalls: StallRate | None = None

    def __post_init__(self) -> None:
        for names, known, what in ((self.traces, tuple(SPECS), "trace"), (self.policies, POLICIES, "policy")):
            for name in names:
                if name not in known:
                    raise ValueError(f"there is no {what} {name!r:.40} (there are: {', '.join(known)})")


def run_all(world: World, options: SimulateOptions) -> Results:
    """Every trace, every seed, every policy."""
    results: dict[str, list[Mapping[str, Scores]]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        begun = {
            (trace, seed): pool.submit(
                contest, trace, seed, world, options.policies, seconds=options.seconds, stalls=options.stalls
            )
            for trace in options.traces
            for seed in range(options.seeds)
        }
        for (trace, seed), run in begun.items():
            began = time.monotonic()
            results.setdefault(trace, []).append(run.result())
            say(f"{trace}, seed {seed}: done (waited {time.monotonic() - began:.0f} s)")
    return results


def document(world: World, results: Results, options: SimulateOptions) -> Document:
    """All figures, what they rest on, and what does not hold."""
    found = checks(results)
    return {
        "benchmark": "simulate",
        "table": world.table_source,
        "profile": world.profile_source,
        "capacity_per_second": round(world.capacity, 3),
        "unit_budget_ms": round(world.unit_budget_ns / 1e6, 3),
        "seeds": options.seeds,
        "seconds": options.seconds,
        "stalls": None if options.stalls is None else asdict(options.stalls),
        "checks": [{"trace": c.trace, "what": c.text, "figure": c.figure, "holds": c.holds} for c in found],
        "traces": traces_document(results),
        "broken": [str(each) for each in found if not each.holds],
    }


def report(world: World, results: Results) -> None:
    """Tables and checks, to stdout."""
    typer.echo(f"table: {world.table_source}; profile: {world.profile_source}")
    for trace, seeds in results.items():
        typer.echo("\n" + "\n".join(table(trace, seeds)))
    typer.echo("\nwhat must hold, on the worst seed of each trace")
    for each in checks(results):
        typer.echo(str(each))
    typer.echo("")


def _names(given: str, all_names: Sequence[str]) -> tuple[str, ...]:
    wanted = {each.strip() for each in given.split(",") if each.strip()}
    return tuple(name for name in all_names if name in wanted) + tuple(sorted(wanted - set(all_names)))


@plain_errors
def simulate(  # noqa: PLR0913, PLR0917 - one parameter per option is how typer reads a command
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each trace.")] = 5,
    profile: Annotated[Path | None, typer.Option(help="Latency profile; a stated example if not given.")] = None,
    store: Annotated[Path | None, typer.Option(help="Model store; the packaged one if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model, for its Pareto table: NAME or NAME@VERSION.")] = "default",
    traces: Annotated[str, typer.Option(help="Names, with commas between.")] = ",".join(SPECS),
    policies: Annotated[str, typer.Option(help="Names, with commas between.")] = ",".join(POLICIES),
    workers: Annotated[int, typer.Option(min=1, max=_MOST_WORKERS, help="Processes.")] = _MOST_WORKERS,
    out: Annotated[Path | None, typer.Option("--json", help="Write the document to this file, too.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write pictures into this folder (needs matplotlib).")] = None,
    stalls: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="PER_SECOND MEAN_MS", help="Let the host stall; no limit is about that."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, the first 30 s of each trace.")] = False,  # noqa: FBT002
) -> None:
    """Compare policies under a virtual clock; the last line is one JSON document."""
    options = SimulateOptions(
        traces=_names(traces, tuple(SPECS)),
        policies=_names(policies, POLICIES),
        seeds=1 if quick else seeds,
        seconds=QUICK_SECONDS if quick else None,
        workers=workers,
        stalls=None if stalls is None else StallRate(*stalls),
    )
    world = load_world(store if store is not None else packaged_store(), model, profile)
    say(f"table: {world.table_source}; profile: {world.profile_source}")
    results = run_all(world, options)
    report(world, results)
    found = document(world, results, options)
    if out is not None:
        out.write_text(json.dumps(found, allow_nan=False) + "\n", encoding="utf-8")
    if plots is not None:
        for path in plot(results, plots):
            say(f"wrote {path}")
    finish(found)


if __name__ == "__main__":
    typer.run(simulate)
