"""Prometheus metrics of one server: an own registry per application, nothing global."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.answering import Answered

Outcome = Literal[
    "served_in_budget",
    "served_late",
    "rejected_infeasible",
    "rejected_overload",
    "expired_in_queue",
    "client_gone",
    "failed",
]
OUTCOMES: tuple[Outcome, ...] = (
    "served_in_budget",
    "served_late",
    "rejected_infeasible",
    "rejected_overload",
    "expired_in_queue",
    "client_gone",
    "failed",
)
STAGES = ("queue", "tokenize", "inference", "post")

# 1 ms to 2 s in steps of about 1.4, finer where budgets usually lie than the client library's defaults.
TIME_BUCKETS = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.007, 0.010, 0.014, 0.020, 0.028, 0.040, 0.056),
    *(0.080, 0.112, 0.160, 0.225, 0.320, 0.450, 0.640, 0.900, 1.28, 2.0, 5.0, 20.0),
)
COUNT_BUCKETS = (1, 2, 3, 5, 8, 13, 21, 55, 144, 377, 987)


class Metrics:
    """What `/metrics` shows.  Every question that passed validation has exactly one outcome."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "leeway_requests_total",
            "Valid question requests by outcome.",
            ["endpoint", "outcome"],
            registry=self.registry,
        )
        self.invalid = Counter(
            "leeway_invalid_requests_total", "Requests refused as malformed.", ["status"], registry=self.registry
        )
        self.latency = Histogram(
            "leeway_request_seconds",
            "Latency of answered requests, arrival to answer.",
            ["outcome", "length_config"],
            buckets=TIME_BUCKETS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "leeway_stage_seconds",
            "Time of answered requests by stage.",
            ["stage", "length_config"],
            buckets=TIME_BUCKETS,
            registry=self.registry,
        )
        self.windows = Histogram(
            "leeway_request_windows", "Windows per answered request.", buckets=COUNT_BUCKETS, registry=self.registry
        )
        self.queue_depth = Gauge("leeway_queue_depth", "Requests waiting for the engine.", registry=self.registry)
        self.in_flight = Gauge(
            "leeway_requests_in_flight", "Requests accepted and not yet answered.", registry=self.registry
        )
        self.ready = Gauge("leeway_ready", "1 when questions are taken, else 0.", registry=self.registry)
        self.model = Gauge(
            "leeway_model_info",
            "Always 1; the labels say what is served.",
            ["model", "version", "digest", "engine", "precision"],
            registry=self.registry,
        )
        for endpoint in ("qa", "qa_batch"):
            for outcome in OUTCOMES:
                self.requests.labels(endpoint, outcome)

    def answered(self, endpoint: str, answered: Answered, budget_ns: int | None) -> bool:
        """Count an answered request; whether it met its budget (always, without one)."""
        times = answered.times
        met = budget_ns is None or times.total_ns <= budget_ns
        outcome: Outcome = "served_in_budget" if met else "served_late"
        configuration = answered.configuration.id
        self.requests.labels(endpoint, outcome).inc()
        self.latency.labels(outcome, configuration).observe(times.total_ns / 1e9)
        spent = (times.queue_ns, times.tokenize_ns, times.inference_ns, times.post_ns)
        for stage, nanoseconds in zip(STAGES, spent, strict=True):
            self.stage.labels(stage, configuration).observe(nanoseconds / 1e9)
        self.windows.observe(answered.windows)
        return met

    def unanswered(self, endpoint: str, outcome: Outcome) -> None:
        """Count a valid request that got no answer."""
        self.requests.labels(endpoint, outcome).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
