"""A table, a profile and a router, small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model_store.length_config import LengthConfiguration
from model_store.pareto import ParetoPoint, ParetoTable
from server.routing.latency_model import LatencyModel
from server.routing.policy import BacklogPrice, LookAhead, Policy
from server.routing.profile import LatencyProfile, ProfileKey
from server.routing.router import Router, RoutingSettings
from server.routing.ticket import Dispatch, Refusal, Ticket

MS = 1_000_000
SECOND = 1_000 * MS
LENGTHS = (16, 400)
COSTS = (0.25, 0.5, 1.0)
F1 = (60.0, 72.0, 80.0)
IDS = ("c02", "c01", "full")


def table() -> ParetoTable:
    """Three points; their ratios do not matter here."""
    points = [
        ParetoPoint(LengthConfiguration(name, (cost,)), cost * 1e9, held_out_f1=f1, held_out_exact_match=50.0)
        for name, cost, f1 in zip(IDS, COSTS, F1, strict=True)
    ]
    return ParetoTable(tuple(points), 100.0)


def profile(*, residuals: tuple[float, ...] = (0.95, 1.0, 1.05), answer_ms: float = 0.5) -> LatencyProfile:
    """``full`` takes 0.1 ms per token, the others a half and a quarter of it."""
    return LatencyProfile(
        key=ProfileKey("sha256:0", "fake", "none", "none", 1),
        configurations=IDS,
        lengths=LENGTHS,
        window_ns=tuple(tuple(cost * length * 0.1 * MS for length in LENGTHS) for cost in COSTS),
        residuals=residuals,
        answer_ns=answer_ms * MS,
        answer_ns_per_window=0.0,
        tokenize_ns=0.0,
        tokenize_ns_per_char=0.0,
        measured="calibrated",
    )


def look_ahead(_model: LatencyModel) -> Policy:
    return LookAhead(np.array(F1))


def backlog_price(model: LatencyModel) -> Policy:
    return BacklogPrice(np.array(F1), model.work((100,)).base_ns)


def poor_cheap(refusal_cost: float) -> Callable[[LatencyModel], Policy]:
    """The policy as if the cheapest configuration had an F1 of 10: the next has the most per unit of cost."""
    return lambda model: _priced((10.0, *F1[1:]), model, refusal_cost)


def poor_two(refusal_cost: float) -> Callable[[LatencyModel], Policy]:
    """As if the cheapest two had an F1 of 10 and 30: full has the most per unit of cost."""
    return lambda model: _priced((10.0, 30.0, F1[2]), model, refusal_cost)


def _priced(f1: tuple[float, ...], model: LatencyModel, refusal_cost: float) -> Policy:
    return BacklogPrice(np.array(f1), model.work((100,)).base_ns, refusal_cost=refusal_cost)


def router(policy: Callable[[LatencyModel], Policy] = backlog_price, **limits: Any) -> Router:
    """A router over `profile` and `table`."""
    model = LatencyModel(profile())
    return Router(table(), model, policy(model), RoutingSettings(**limits))


def admitted(found: Ticket | Refusal) -> Ticket:
    assert isinstance(found, Ticket), found
    return found


def refused(found: Ticket | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


def started(server: Router, now_ns: int) -> Dispatch:
    dispatch, dropped = server.dispatch(now_ns)
    assert dispatch is not None
    assert not dropped
    return dispatch
