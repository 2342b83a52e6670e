"""Prometheus metrics of one server: an own registry per application, nothing global."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.answering import Answered
from server.fleet import PollResult
from server.routing.outcomes import Outcome

STAGES = ("queue", "tokenize", "inference", "post")

# 1 ms to 2 s in steps of about 1.4, finer where budgets usually lie than the client library's defaults.
TIME_BUCKETS = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.007, 0.010, 0.014, 0.020, 0.028, 0.040, 0.056),
    *(0.080, 0.112, 0.160, 0.225, 0.320, 0.450, 0.640, 0.900, 1.28, 2.0, 5.0, 20.0),
)
# Observed over predicted: fine around 1, where predictions should lie.
RATIO_BUCKETS = (
    *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4),
    *(1.5, 1.6, 1.7, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0),
)
SLACK_BUCKETS = (-0.1, -0.02, -0.005, 0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
COUNT_BUCKETS = (1, 2, 3, 5, 8, 13, 21, 55, 144, 377, 987)


@dataclass(frozen=True, slots=True)
class _Series:
    """What an answered request is counted in: to find all of them by their labels takes as long as to count."""

    requests: Counter
    latency: Histogram
    predicted: Histogram
    prediction_ratio: Histogram
    stages: tuple[Histogram, ...]


class Metrics:
    """What `/metrics` shows.  Every question that passed validation has exactly one outcome."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series = cache(self._find_series)
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
        self._add_routing()
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
            for outcome in Outcome:
                self.requests.labels(endpoint, outcome)

    def _add_routing(self) -> None:
        """What the router predicts, and what it goes by."""
        labels = ["outcome", "length_config"]

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=self.registry)

        self.predicted = histogram(
            "leeway_predicted_latency_seconds", "Latency as predicted at dispatch, upper quantile.", TIME_BUCKETS
        )
        self.prediction_ratio = histogram(
            "leeway_prediction_ratio", "Observed latency over the one predicted at dispatch.", RATIO_BUCKETS
        )
        self.slack = histogram(
            "leeway_slack_seconds", "Left of the budget at dispatch, the expected inference taken off.", SLACK_BUCKETS
        )
        self.service_ratio = Histogram(
            "leeway_service_ratio",
            "Observed inference time over the latency profile's, neither trimmed nor scaled.",
            buckets=RATIO_BUCKETS,
            registry=self.registry,
        )
        self.expected_f1 = Counter(
            "leeway_expected_f1_total",
            "Sum of the held-out F1 of the configurations that answered within the budget.",
            registry=self.registry,
        )
        self.scale = gauge("leeway_scale_factor", "How many times slower than the trimmed profile the host is now.")
        self.tail = gauge(
            "leeway_tail_factor", "Upper quantile over expectation of inference, at full and mean length."
        )
        self.trim = gauge("leeway_profile_trim", "What the slow loop multiplies the latency profile with.")
        self.pressure = gauge("leeway_cpu_pressure", "Share of our CPU time that others take from us, 0 to 1.")
        self.profile_probed = gauge(
            "leeway_profile_probed", "1 while the latency profile was only probed at start-up, 0 once it is calibrated."
        )
        self.throttled = Counter(
            "leeway_cpu_throttled_seconds_total",
            "Time in periods in which the CPU quota ran out; its rate is the share of time.",
            registry=self.registry,
        )
        self.ceiling = gauge(
            "leeway_load_ceiling", "Richest length configuration for requests without a budget, 0 the cheapest."
        )
        self.fleet_polls = Counter(
            "leeway_fleet_polls_total", "Questions to Prometheus by result.", ["result"], registry=self.registry
        )
        for result in get_args(
            PollResult
        ):  # a series that begins with its first event hides that event from increase()
            self.fleet_polls.labels(result)

    def answered(self, endpoint: str, answered: Answered, expected_f1: float, *, met: bool) -> None:
        """Count an answered request that met its budget (always, without one), or did not."""
        times = answered.times
        outcome = Outcome.SERVED_IN_BUDGET if met else Outcome.SERVED_LATE
        series = self._series(endpoint, outcome, answered.configuration.id)
        series.requests.inc()
        if met:
            self.expected_f1.inc(expected_f1)
        series.latency.observe(times.total_ns / 1e9)
        series.predicted.observe(answered.predicted_latency_ns / 1e9)
        series.prediction_ratio.observe(times.total_ns / answered.predicted_latency_ns)
        if answered.slack_ns is not None:
            self.slack.labels(outcome, answered.configuration.id).observe(answered.slack_ns / 1e9)
        self.service_ratio.observe(times.inference_ns / answered.profile_ns)
        spent = (times.queue_ns, times.tokenize_ns, times.inference_ns, times.post_ns)
        for stage, nanoseconds in zip(series.stages, spent, strict=True):
            stage.observe(nanoseconds / 1e9)
        self.windows.observe(answered.windows)

    def _find_series(self, endpoint: str, outcome: Outcome, configuration: str) -> _Series:
        return _Series(
            requests=self.requests.labels(endpoint, outcome),
            latency=self.latency.labels(outcome, configuration),
            predicted=self.predicted.labels(outcome, configuration),
            prediction_ratio=self.prediction_ratio.labels(outcome, configuration),
            stages=tuple(self.stage.labels(stage, configuration) for stage in STAGES),
        )

    def unanswered(self, endpoint: str, outcome: Outcome) -> None:
        """Count a valid request that got no answer."""
        self.requests.labels(endpoint, outcome).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
