"""Are latency budgets kept, as the client measures it, and does a larger one buy a better answer?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.promise.client import FastClient, Reply, prepared
from benchmarks.promise.figures import answered, configurations, mean_f1, percentiles, share, statuses
from benchmarks.promise.pinned import Setup, chosen_text, configuration_ids, pinned_server
from benchmarks.report import Document, say
from benchmarks.server_process import BenchmarkError

TIMES = (0.8, 1.0, 2.0)
"""Budgets, as multiples of the full configuration's p99."""

LEAST_WITHIN = 0.99
BLOCK = 20
"""Requests in a row with the same budget."""

_EXPIRED = 504
_F1_NOISE = 1e-6  # means of equal figures
_PINNED_FULL = {"X-Length-Config": "full"}


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    """How much is asked.

    Attributes:
        requests: with each budget, and without.
        warm_up: before all of them.
        seed: of the order of budgets.
    """

    requests: int = 1000
    warm_up: int = 300
    seed: int = 0


def measure(setup: Setup, options: BudgetOptions) -> Document:
    """The full configuration's p99, then each budget.

    Raises:
        BenchmarkError: the server cannot be started, or does not answer without a budget.
    """
    text, ids = chosen_text(setup), configuration_ids(setup)
    with pinned_server(setup) as server:
        client = FastClient(server.port)
        full = _full(client, prepared(text.asked, _PINNED_FULL), options)
        limit_ms = float(np.percentile([reply.latency_ms for reply in full], 99))
        say(f"full: p99 {limit_ms:.2f} ms over {len(full)} requests, as the client measures it")
        budgets = [round(times * limit_ms, 3) for times in TIMES]
        requests = [prepared(text.asked, {"X-Latency-Budget-ms": f"{budget:.3f}"}) for budget in budgets]
        replies = ask_in_blocks(client.ask, requests, schedule(len(budgets), options.requests, options.seed))
        client.close()
    found = [
        {"times_p99": times, **summary(budget, each)}
        for times, budget, each in zip(TIMES, budgets, replies, strict=True)
    ]
    return {
        "benchmark": "budgets",
        "model": setup.model,
        "configurations": len(ids),
        "text": text.document(),
        "calibrated": setup.calibrate,
        "requests": options.requests,
        "seed": options.seed,
        "full": {"client_ms": percentiles([reply.latency_ms for reply in full]), **unseen(full)},
        "budgets": found,
        "broken": breaches(found, len(ids)),
    }


def _full(client: FastClient, request: bytes, options: BudgetOptions) -> list[Reply]:
    """Replies of the full configuration without a budget, after the warm-up."""
    replies = [client.ask(request) for _ in range(options.warm_up + options.requests)]
    bad = {status: count for status, count in statuses(replies).items() if status != "200"}
    if bad:
        raise BenchmarkError(f"without a budget not all requests were answered; others, by status: {bad}")
    return replies[options.warm_up :]


def schedule(kinds: int, requests: int, seed: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """(kind, requests in a row), so that each kind has `requests` in all.

    Every kind has a block in each round, in an order drawn anew, so that a host which is slow for a while hits all.
    """
    generator = np.random.default_rng(seed)
    rounds = [min(block, requests - start) for start in range(0, requests, block)]
    return [(int(kind), count) for count in rounds for kind in generator.permutation(kinds)]


def ask_in_blocks(
    ask: Callable[[bytes], Reply], requests: Sequence[bytes], blocks: Sequence[tuple[int, int]]
) -> list[list[Reply]]:
    """Replies by kind."""
    replies: list[list[Reply]] = [[] for _ in requests]
    for kind, count in blocks:
        replies[kind].extend(ask(requests[kind]) for _ in range(count))
    return replies


def summary(budget_ms: float, replies: Sequence[Reply]) -> Document:
    """What became of all requests with one budget.

    ``of_admitted`` leaves out those refused (422, 503), but not those that were taken and then dropped (504).
    """
    good = answered(replies)
    within = sum(reply.latency_ms <= budget_ms for reply in good)
    dropped = sum(reply.status == _EXPIRED for reply in replies)
    f1 = mean_f1(replies)
    return {
        "budget_ms": budget_ms,
        "within_budget": {"of_all": share(within, len(replies)), "of_admitted": share(within, len(good) + dropped)},
        "statuses": statuses(replies),
        "expected_f1": None if f1 is None else round(f1, 3),
        "configurations": configurations(replies),
        "client_ms": percentiles([reply.latency_ms for reply in good]),
        "predicted_ms": percentiles([each.predicted_ms for each in good if each.predicted_ms is not None], (50,)),
        **unseen(replies),
    }


def unseen(replies: Sequence[Reply]) -> Document:
    """What the client measured beyond the server's own time: what the server's reserve must cover."""
    beyond = [each.latency_ms - each.server_ms for each in answered(replies) if each.server_ms is not None]
    return {"unseen_ms": percentiles(beyond)}


def breaches(found: Sequence[Document], points: int) -> list[str]:
    """The limits that were broken; `found` by rising budget, of a model with `points` configurations."""
    broken = []
    for each in found:
        kept = each["within_budget"]["of_all"]
        if kept is None or kept < LEAST_WITHIN:
            broken.append(f"{each['budget_ms']} ms: {kept} within the budget, at least {LEAST_WITHIN}")
    f1 = [each["expected_f1"] for each in found if each["expected_f1"] is not None]
    if any(larger < smaller - _F1_NOISE for smaller, larger in pairwise(f1)):
        broken.append(f"mean expected F1 falls as the budget rises: {f1}")
    if points > 1 and (len(f1) < len(found) or f1[-1] <= f1[0] + _F1_NOISE):
        broken.append(f"mean expected F1 does not rise from the smallest budget to the largest: {f1}")
    return broken
