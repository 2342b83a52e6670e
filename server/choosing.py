"""Which engine runs the model: the one that the settings name, or the fastest measured of those installed.

"Fastest" is the time of one window of the Pareto table's mean real length, averaged over length configurations.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from model_store.length_config import LengthConfiguration
from model_store.pareto import ParetoTable
from server.engine import create_engine, installed_engines
from server.engine.interface import Engine, EngineUnavailableError
from server.engine.probe import ProbeWindow
from server.engine.processor import processor_name
from server.engine.threads import available_threads
from server.profiles import load_profiles
from server.routing.profile import CALIBRATED, LatencyProfile

if TYPE_CHECKING:
    from model_store.artifact import Artifact
    from server.settings import Settings

logger = logging.getLogger("leeway")

AUTO = "auto"
NAMED = "named by the settings"
MEASURE_SECONDS = 2.0
"""For all engines together, after their first calls."""

_FIRST_CALLS = 3  # the first ones of a shape make its kernels
_ROUNDS = 9

Create = Callable[..., Engine]


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and why it is this one, for people."""

    engine: Engine
    reason: str


def choose_engine(
    settings: Settings,
    artifact: Artifact,
    *,
    create: Create = create_engine,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Choice:
    """Load `artifact` into the engine that `settings` name.

    Under ``auto``: if only one engine is installed, or runs here, it is that one, and nothing is measured.  Else, if
    the profile folder holds a calibrated profile of each of them, the one with the shorter times.  Else all are loaded
    and called for about `MEASURE_SECONDS`, and the fastest stays.

    Raises:
        EngineUnavailableError: the engine that is named cannot run; under ``auto``, none can.
    """
    load = _loader(settings, artifact, create)
    if settings.engine != AUTO:
        return Choice(load(settings.engine), NAMED)
    names = installed_engines()
    stored = stored_times(settings, artifact)
    if len(names) > 1 and all(name in stored for name in names):
        names = tuple(sorted(names, key=stored.__getitem__))
        try:
            return Choice(load(names[0]), f"fastest in the stored latency profiles: {_shown(stored, names)}")
        except EngineUnavailableError as error:
            logger.warning("engine auto leaves %s out, fastest in the stored profiles: %s", names[0], error)
            names = names[1:]
    engines = _loaded(names, load)
    if len(engines) == 1:
        (engine,) = engines.values()
        return Choice(
            engine, "the only engine that is installed" if len(names) == 1 else "the only engine that runs here"
        )
    times = measured_times(engines, artifact, clock_ns)
    best = min(engines, key=times.__getitem__)
    for name, engine in engines.items():
        if name != best:
            engine.close()
    return Choice(engines[best], f"fastest measured at start-up: {_shown(times, engines)}")


def engines_to_calibrate(settings: Settings) -> tuple[str, ...]:
    """Names of the engines that `leeway calibrate` measures: under ``auto`` all that are installed."""
    return installed_engines() if settings.engine == AUTO else (settings.engine,)


def stored_times(settings: Settings, artifact: Artifact) -> dict[str, float]:
    """Nanoseconds by engine, from the calibrated profiles of this artifact on this processor with as many threads."""
    if settings.profile_dir is None:
        return {}
    threads = settings.threads or available_threads()
    here = (artifact.digest, threads, processor_name().split())
    times = {}
    for profile in load_profiles(settings.profile_dir):
        key = profile.key
        alike = (key.artifact, key.threads, key.cpu.split()) == here and profile.measured == CALIBRATED
        if alike and key.precision.endswith("bf16") == (settings.precision == "bf16"):
            times[key.engine] = typical_ns(profile, artifact.table, artifact.manifest.reading.max_length)
    return times


def typical_ns(profile: LatencyProfile, table: ParetoTable, max_length: int) -> float:
    """Nanoseconds of a window of the table's mean real length, averaged over length configurations."""
    return float(profile.inference_ns([_typical_length(table, max_length)]).mean())


def measured_times(
    engines: Mapping[str, Engine], artifact: Artifact, clock_ns: Callable[[], int] = time.monotonic_ns
) -> dict[str, float]:
    """Nanoseconds by engine, of the cheapest, the middle and the full configuration, in rounds over all engines."""
    points = artifact.table.points
    configurations = [points[place].configuration for place in sorted({0, len(points) // 2, len(points) - 1})]
    length = _typical_length(artifact.table, artifact.manifest.reading.max_length)
    window = ProbeWindow.drawn(length, artifact.manifest.architecture.vocabulary, np.random.default_rng(0))
    cells = [(name, configuration) for name in engines for configuration in configurations]
    for name, configuration in cells:
        for _ in range(_FIRST_CALLS):
            engines[name].run([window], configuration)
    samples: dict[tuple[str, LengthConfiguration], list[int]] = {cell: [] for cell in cells}
    deadline_ns = clock_ns() + round(MEASURE_SECONDS * 1e9)
    for turn in range(_ROUNDS):
        if turn and clock_ns() >= deadline_ns:
            break
        for name, configuration in cells:
            samples[name, configuration].append(engines[name].run([window], configuration).inference_ns)
    return {name: fmean(median(samples[name, each]) for each in configurations) for name in engines}


def _typical_length(table: ParetoTable, max_length: int) -> int:
    return max(1, min(round(table.mean_real_length), max_length))


def _loader(settings: Settings, artifact: Artifact, create: Create) -> Callable[[str], Engine]:
    return lambda name: create(name, artifact, threads=settings.threads, precision=settings.precision)


def _loaded(names: Iterable[str], load: Callable[[str], Engine]) -> dict[str, Engine]:
    """The engines that can run the model here, by name; at least one.

    Raises:
        EngineUnavailableError: none can; the message has the reason of each.
    """
    engines, reasons = {}, []
    for name in names:
        try:
            engines[name] = load(name)
        except EngineUnavailableError as error:
            reasons.append(str(error))
            logger.info("engine auto leaves %s out: %s", name, error)
    if not engines:
        raise EngineUnavailableError("; ".join(reasons) or "no engine is installed; pip install leeway-qa brings one")
    return engines


def _shown(times: Mapping[str, float], names: Iterable[str]) -> str:
    """``openvino 7.31 ms, ipex 8.02 ms``, fastest first."""
    return ", ".join(f"{name} {times[name] / 1e6:.2f} ms" for name in sorted(names, key=times.__getitem__))
