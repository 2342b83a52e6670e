"""A model whose engine moves a clock that otherwise stands still: measurements without real time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from model_store.architecture import Architecture
from model_store.length_config import LengthConfiguration, full_configuration
from model_store.pareto import ParetoPoint, ParetoTable, macs
from server.engine.fake import FakeEngine
from server.engine.interface import EngineResult, WindowTokens
from server.model import LoadedModel
from tests.server.fixtures import fake_model

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
Duration = Callable[[LengthConfiguration, int], float]


class Clock:
    """Stands still but for the engine."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class SlowEngine(FakeEngine):
    """Takes a time of the clock that depends on configuration, length and number of the call."""

    def __init__(self, architecture: Architecture, clock: Clock, duration: Duration, noise: Sequence[float]) -> None:
        super().__init__(architecture)
        self._clock = clock
        self._duration = duration
        self._noise = noise
        self.order: list[tuple[str, int]] = []

    def run(self, windows: Sequence[WindowTokens], configuration: LengthConfiguration) -> EngineResult:
        length = sum(len(window.token_ids) for window in windows)
        factor = self._noise[len(self.order) % len(self._noise)]
        self.order.append((configuration.id, length))
        self._clock.now_ns += round(self._duration(configuration, length) * factor)
        return super().run(windows, configuration)

    @property
    def cells(self) -> set[tuple[str, int]]:
        return set(self.order)


def slow_model(
    clock: Clock, duration: Duration, *, ratios: Sequence[float] = (0.25, 0.5, 0.75), noise: Sequence[float] = (1.0,)
) -> tuple[LoadedModel, SlowEngine]:
    """A model of that many configurations beside the full one, windows of 64 tokens and 128 positions."""
    tiny = fake_model()
    engine = SlowEngine(tiny.architecture, clock, duration, noise)
    layers = tiny.architecture.layers
    names = [f"c{number:02d}" for number in range(len(ratios), 0, -1)]
    choices = [LengthConfiguration(name, (ratio,) * layers) for name, ratio in zip(names, ratios, strict=True)]
    points = [
        ParetoPoint(each, macs(tiny.architecture, 40.0, [40.0 * ratio for ratio in each.ratios]), 50.0 + place, 40.0)
        for place, each in enumerate([*choices, full_configuration(layers)])
    ]
    return replace(tiny, engine=engine, table=ParetoTable(tuple(points), 40.0)), engine
