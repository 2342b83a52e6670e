"""Requests and scenarios for tests."""

from __future__ import annotations

import json
from typing import Any

from loadtest.figures import Judged
from loadtest.outcomes import Outcome, Reply
from loadtest.scenario import Scenario


def judged(
    latency_ms: float = 10.0,
    outcome: Outcome = Outcome.SERVED_IN_BUDGET,
    *,
    at: float = 0.0,
    lag_ms: float = 0.5,
    f1: float = 1.0,
    phase: str = "all",
    budget: str = "default",
    reply: Reply | None = None,
) -> Judged:
    given = reply or Reply(200, configuration="full", expected_f1=80.0, said_met=True, server_ms=latency_ms / 2)
    return Judged(at, lag_ms, latency_ms, budget, 100.0, "paragraph", phase, outcome, f1, given)


def scenario(**changes: Any) -> Scenario:
    """A small valid one, with `changes` in place of its keys (None takes one away)."""
    content: dict[str, Any] = {
        "name": "test",
        "about": "For tests.",
        "arrivals": {"process": "constant", "phases": [{"seconds": 10, "rate": 10}]},
        "budgets": [{"label": "default", "share": 1.0, "ms": 100}],
        **changes,
    }
    kept = {name: value for name, value in content.items() if value is not None}
    return Scenario.model_validate_json(json.dumps(kept))
