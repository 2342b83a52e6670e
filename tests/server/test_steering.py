"""What steering shows: whether the profile was only probed, and how long the CPU quota stopped us."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from server.metrics import Metrics
from server.pressure import PressureReader, PressureSample
from server.routing.profile import PROBED
from server.service import make_router
from server.steering import Steering
from tests.server.fixtures import fake_model, tiny_profile, tiny_settings


class ScriptedReader(PressureReader):
    """Tells what it is told."""

    def __init__(self, *samples: PressureSample) -> None:
        self._samples: Iterator[PressureSample] = iter(samples)

    def sample(self) -> PressureSample:
        return next(self._samples)


def steering(metrics: Metrics, reader: PressureReader, measured: str = "calibrated") -> Steering:
    model, settings = fake_model(), tiny_settings()
    router = make_router(model, replace(tiny_profile(model), measured=measured), settings)
    return Steering(settings, router, metrics, threads=1, mean_length=40, reader=reader)


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


@pytest.mark.parametrize(("measured", "shown"), [("calibrated", 0.0), (PROBED, 1.0)])
def test_a_profile_that_was_only_probed_is_shown(measured: str, shown: float) -> None:
    metrics = Metrics()
    steering(metrics, ScriptedReader(), measured)
    assert value(metrics, "leeway_profile_probed") == shown


def test_throttled_time_adds_up_over_looks() -> None:
    metrics = Metrics()
    second = 1_000_000_000
    watched = steering(
        metrics,
        ScriptedReader(
            PressureSample(),
            PressureSample(second // 4, throttled_cpus=0.1, throttled_periods=0.4),
            PressureSample(second // 2, throttled_cpus=0.1, throttled_periods=1.0),
            PressureSample(second, throttled_periods=None),
        ),
    )
    for _ in range(4):
        watched.look()
    assert value(metrics, "leeway_cpu_throttled_seconds_total") == pytest.approx(0.25 * 0.4 + 0.5)
