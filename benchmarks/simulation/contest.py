"""Who runs, and all of them through one trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.simulation.adapter import MakeRouter, ServerRouter, own_policy
from benchmarks.simulation.baselines import Clipper, Fixed, SlackFit, fitting
from benchmarks.simulation.host import StallRate
from benchmarks.simulation.intervals import Infaas, Proteus
from benchmarks.simulation.loop import simulate
from benchmarks.simulation.oracle import bound
from benchmarks.simulation.scores import Scores, score
from benchmarks.simulation.trace import Trace, make_trace
from benchmarks.simulation.world import World
from server.routing.policy import Policy

OURS = "leeway"
ORACLE = "oracle"
FIXED = ("fixed_full", "fixed_middle", "fixed_cheapest")
_OTHERS: dict[str, Callable[[World], Policy]] = {
    "slackfit": lambda world: SlackFit(world.f1),
    "proteus": lambda world: Proteus(world.f1),
    "infaas": lambda world: Infaas(world.f1),
    "clipper": lambda world: Clipper(world.f1),
}
BASELINES = (*FIXED, "clockwork", "clockwork_fit", *_OTHERS)
POLICIES = (OURS, *BASELINES, ORACLE)


def fixed_index(name: str, trace: Trace, world: World) -> int | None:
    """The one configuration of a policy that has but one; None of any other."""
    full = len(world.f1) - 1
    if name == "clockwork_fit":
        return fitting(world.mean_inference_ns, len(trace) / trace.seconds)
    return {"fixed_full": full, "fixed_middle": (full + 1) // 2, "fixed_cheapest": 0, "clockwork": full}.get(name)


def contest(  # noqa: PLR0913 - one run, said in full
    name: str,
    seed: int,
    world: World,
    policies: Sequence[str] = POLICIES,
    *,
    seconds: float | None = None,
    stalls: StallRate | None = None,
    make_router: MakeRouter = ServerRouter,
) -> dict[str, Scores]:
    """The figures of each of `policies` on one trace; the same configuration fixed is run once.

    Raises:
        ValueError: no such trace or policy.
        RuntimeError: a request was lost.
    """
    trace = make_trace(name, seed, world, seconds=seconds, stalls=stalls)
    fixed: dict[int, Scores] = {}
    found: dict[str, Scores] = {}
    for policy in policies:
        index = fixed_index(policy, trace, world)
        if policy == ORACLE:
            found[policy] = _oracle(trace, world)
        elif index is None:
            found[policy] = score(trace, simulate(trace, world, make_router(world, _policy(policy, world))), world)
        else:
            if index not in fixed:
                fixed[index] = score(trace, simulate(trace, world, make_router(world, Fixed(index))), world)
            found[policy] = fixed[index]
    return found


def _policy(name: str, world: World) -> Policy:
    if name == OURS:
        return own_policy(world)
    if name not in _OTHERS:
        raise ValueError(f"there is no policy {name!r:.40} (there are: {', '.join(POLICIES)})")
    return _OTHERS[name](world)


def _oracle(trace: Trace, world: World) -> Scores:
    f1, served = bound(trace, world)
    return Scores(f1, served, 0.0, served / 100.0 * len(trace) / trace.seconds)
