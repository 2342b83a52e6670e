"""What the answer says about how it was made: in headers always, in the body when asked."""

from __future__ import annotations

from dataclasses import dataclass

from server.answering import Answered, StageTimes, Wanted
from server.api.headers import BUDGET_HEADER, LENGTH_CONFIG_HEADER, server_timing


@dataclass(frozen=True, slots=True)
class Routing:
    """How a request was routed.

    Attributes:
        length_config: id of the length configuration that answered.
        expected_f1: its held-out F1.
        predicted_latency_ms: arrival to answer, upper quantile, as predicted at dispatch.
        latency_ms: arrival to answer, as observed.
        budget_ms: of the caller, or the server's default; None without one.
        budget_met: whether the answer was there in time; None without a budget.
        reason: why this configuration, in words.
    """

    length_config: str
    expected_f1: float
    predicted_latency_ms: float
    latency_ms: float
    budget_ms: float | None
    budget_met: bool | None
    reason: str

    @classmethod
    def of(cls, answered: Answered, wanted: Wanted, expected_f1: float, *, met: bool) -> Routing:
        """The routing of an answered request."""
        budget_ns = wanted.budget_ns
        return cls(
            length_config=answered.configuration.id,
            expected_f1=expected_f1,
            predicted_latency_ms=round(answered.predicted_latency_ns / 1e6, 3),
            latency_ms=round(answered.times.total_ns / 1e6, 3),
            budget_ms=None if budget_ns is None else budget_ns / 1e6,
            budget_met=None if budget_ns is None else met,
            reason=_reason(wanted),
        )

    def headers(self, times: StageTimes) -> dict[str, str]:
        """Response headers."""
        headers = {
            LENGTH_CONFIG_HEADER: self.length_config,
            "X-Expected-F1": f"{self.expected_f1:.2f}",
            "X-Predicted-Latency-ms": f"{self.predicted_latency_ms:.3f}",
            "Server-Timing": server_timing(times),
        }
        if self.budget_ms is not None:
            headers[BUDGET_HEADER] = f"{self.budget_ms:.6f}".rstrip("0").rstrip(".")
            headers["X-Latency-Budget-Met"] = "true" if self.budget_met else "false"
        return headers


def _reason(wanted: Wanted) -> str:
    if wanted.pinned is not None:
        return "pinned by the request or the server's setting"
    if wanted.budget_ns is None:
        return "no budget: the best that the load allows"
    if wanted.best_effort:
        return "best effort: the best within the budget, or the fastest"
    return "the best that the budget and those who wait allow"
