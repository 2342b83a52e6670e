"""Run a scenario: wait for the server, warm it up, measure what is relative, offer the load, judge every request."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.bisection import Found, highest_passing
from loadtest.client import Pool, Target, TargetError, get, request_bytes
from loadtest.driver import Lanes, Played, play_closed, play_open
from loadtest.figures import Document, Judged, percentile
from loadtest.mixes import Ask, Budget, Place, budgets_of, generators, make_asks
from loadtest.runs import Capacity, Result, Run, VoidError, end_s, judge, probe_document
from loadtest.scenario import Headers, Scenario
from loadtest.schedule import Arrivals, Rate, make_arrivals, read_trace

CAPACITY_CLIENTS = 4
"""In flight while capacity is measured: enough that the engine never waits for the next question."""

_READY_SECONDS = 60
_CLOSED_ASKS = 2_000
_VOID_RETRIES = 2


@dataclass
class Execution:
    """One scenario against one server.

    Attributes:
        scenario: what to do.
        places: the questions of the file.
        target: the server.
        lanes: what requests run in.
        on_judged: told of every request, with the name of the stage.
        say: told of progress.
        draw: tells runs of one scenario apart.
    """

    scenario: Scenario
    places: Sequence[Place]
    target: Target
    lanes: Lanes
    on_judged: Callable[[str, Judged], None]
    say: Callable[[str], None]
    draw: int = 0
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.target, self.scenario.generator.timeout_seconds)

    def run(self) -> Result:
        """Do all of it.

        Raises:
            TargetError: there is no server, it is not ready, or it does not answer as one of ours.
            VoidError: the generator lagged behind in every try at a probe.
            OSError, ValueError: a trace that cannot be read.
        """
        server = self._server()
        plan = self.scenario.generator
        try:
            if plan.warmup_seconds:
                self._closed("warm-up", plan.warmup_seconds, 1, Headers())
            capacity = self._capacity() if self.scenario.needs_capacity else None
            budgets = budgets_of(self.scenario.budgets, capacity.idle_full_ms if capacity else None)
            run, found, probes = self._measure(capacity, budgets)
        finally:
            self.pool.close()
        return Result(self.scenario, server, capacity, tuple(budgets), run, found, tuple(probes), self.pool.opened)

    def _server(self) -> Document:
        """Wait until it is ready; what it says it is."""
        for _ in range(_READY_SECONDS * 10):
            if get(self.target, "/health/ready")[0] == 200:
                break
            self.lanes.sleep(0.1)
        else:
            raise TargetError(f"no ready server at {self.target.host}:{self.target.port}")
        status, body = get(self.target, "/info")
        found = json.loads(body) if status == 200 else None
        if not isinstance(found, dict):
            raise TargetError(f"/info answers {status}: this is no Leeway server")
        return found

    def _capacity(self) -> Capacity:
        """Closed loop, pinned to full, without budgets: one in flight for the latency, then several for the rate."""
        seconds, full = self.scenario.generator.capacity_seconds, Headers(length_config="full")
        alone = [each.latency_ms for each in self._closed("idle", seconds / 2, 1, full) if each.answered]
        several = self._closed("capacity", seconds, CAPACITY_CLIENTS, full)
        ended = [each.intended_s + each.latency_ms / 1e3 for each in several if each.answered]
        if not alone or not ended:
            raise TargetError("no answer of the configuration full while the capacity was measured")
        found = Capacity(len(ended) / max(ended), percentile(sorted(alone), 0.5))
        self.say(f"capacity of full: {found.rate:.1f} /s; its idle median: {found.idle_full_ms:.2f} ms")
        return found

    def _measure(
        self, capacity: Capacity | None, budgets: Sequence[Budget]
    ) -> tuple[Run, Found | None, list[Document]]:
        scenario = self.scenario
        if scenario.single_stream is not None:
            requests = self._closed("single stream", scenario.single_stream.seconds, 1, scenario.headers, budgets)
            return Run(tuple(requests), max(scenario.single_stream.seconds, end_s(requests))), None, []
        if scenario.search is None:
            return self._open(capacity, budgets, 1.0, self.draw), None, []
        return self._search(capacity, budgets)

    def _search(self, capacity: Capacity | None, budgets: Sequence[Budget]) -> tuple[Run, Found, list[Document]]:
        search = self.scenario.search
        assert search is not None
        runs: list[tuple[Run, bool]] = []

        def passes(rate: float) -> bool:
            for _ in range(search.repeats):
                run = self._probe(capacity, budgets, rate, self.draw * search.most_probes * search.repeats + len(runs))
                hits = sum(each.in_budget for each in run.requests)
                runs.append((run, hits >= math.ceil(round(search.attainment * len(run.requests), 9))))
                self.say(f"rate x {rate:.3f}: {hits} of {len(run.requests)} in budget")
                if not runs[-1][1]:
                    return False
            return True

        found = highest_passing(passes, search.start, tolerance=search.tolerance, most_probes=search.most_probes)
        best = [run for run, _ in runs if run.rate == found.rate] or [runs[-1][0]]
        return best[-1], found, [probe_document(run, passed=passed) for run, passed in runs]

    def _probe(self, capacity: Capacity | None, budgets: Sequence[Budget], rate: float, draw: int) -> Run:
        """A run of a search whose generator kept its times, in a few tries."""
        limit_ms = self.scenario.generator.max_lag_p99_ms
        for _ in range(1 + _VOID_RETRIES):
            run = self._open(capacity, budgets, rate, draw)
            if run.lag_p99_ms <= limit_ms:
                return run
            self.say(f"rate x {rate:.3f}: void, the generator lagged by {run.lag_p99_ms:.1f} ms (p99)")
        raise VoidError(
            f"at rate x {rate:.3f} the generator lagged by {run.lag_p99_ms:.1f} ms (p99, limit {limit_ms:g} ms)"
        )

    def _open(self, capacity: Capacity | None, budgets: Sequence[Budget], rate: float, draw: int) -> Run:
        arrivals, phases = self._arrivals(capacity, rate, draw)
        asks = make_asks(self.scenario, self.places, budgets, len(arrivals.at_ns), draw)
        judged: list[Judged] = []

        def done(played: Played) -> None:
            phase = phases[arrivals.phase[played.number]]
            judged.append(judge(played, asks[played.number], phase))
            self.on_judged(phase, judged[-1])

        self.pool.open(self.scenario.generator.connections)
        self.say(f"offering {len(asks)} requests in {arrivals.seconds:g} s")
        play_open(
            arrivals.at_ns.tolist(),
            lambda number: self._bytes(asks[number], self.scenario.headers),
            self.pool.exchange,
            self.lanes,
            done,
        )
        return Run(tuple(sorted(judged, key=lambda each: each.intended_s)), arrivals.seconds, rate)

    def _arrivals(self, capacity: Capacity | None, rate: float, draw: int) -> tuple[Arrivals, list[str]]:
        plan = self.scenario.arrivals
        assert plan is not None
        if plan.process == "trace":
            assert plan.file is not None
            return read_trace(plan.file), ["all"]
        unit = rate * (capacity.rate if plan.unit == "capacity" and capacity is not None else 1.0)
        rates = [Rate(each.seconds, each.rate * unit) for each in plan.phases]
        generator = generators(self.scenario.seeds, draw)["arrivals"]
        return make_arrivals(plan.process, rates, generator, plan.cv or 1.0), [each.name for each in plan.phases]

    def _closed(
        self, stage: str, seconds: float, clients: int, headers: Headers, budgets: Sequence[Budget] | None = None
    ) -> list[Judged]:
        """Closed loop; without `budgets`, none are named."""
        mix = budgets or [Budget(each.label, None) for each in self.scenario.budgets]
        asks = make_asks(self.scenario, self.places, mix, _CLOSED_ASKS)
        judged: list[Judged] = []

        def done(played: Played) -> None:
            judged.append(judge(played, asks[played.number % len(asks)], "all"))
            self.on_judged(stage, judged[-1])

        play_closed(
            seconds,
            clients,
            lambda number: self._bytes(asks[number % len(asks)], headers),
            self.pool.exchange,
            self.lanes,
            done,
        )
        return judged

    def _bytes(self, ask: Ask, headers: Headers) -> bytes:
        return request_bytes(self.target, ask, headers.length_config, headers.policy)
