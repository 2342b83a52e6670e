"""Latency profiles of this host: calibrated by command, probed at start-up, or found in a folder."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from model_store.pareto import macs_at
from reading.spans import SpanSettings
from server.errors import LeewayError
from server.measuring import (
    Cell,
    CellTimer,
    Clock,
    NowAndThen,
    Progress,
    grid_lengths,
    probe_windows,
    spread_out,
    warm_up_what_fits,
)
from server.model import LoadedModel
from server.profiles import ProfileMismatchError, load_profile
from server.routing.profile import (
    CALIBRATED,
    PROBED,
    FloatArray,
    InvalidProfileError,
    LatencyProfile,
    ProfileKey,
    interpolate,
)
from server.text_costs import TextCosts, measure_text_costs, ordinary_text

logger = logging.getLogger("leeway")

CALIBRATION_SECONDS = 100.0
PROBE_SECONDS = 5.0
"""At start-up, of which a fast host needs a fraction."""

RESIDUALS = 200

_LEAST_CALLS = 5  # of each cell, for a median to be worth its name
_WANTED_ROUNDS = 9
_MOST_ROUNDS = 200
_WARM_UP_CALLS = 2  # the first call of a shape makes its kernels, the second its memory
_TEXT_ROUNDS = 30
_TEXT_SHARE = 0.05
_PROBE_ROUNDS = 7
_PROBE_TEXT_ROUNDS = 3
_SAMPLE_WORDS = 600
_SHOWN_LENGTHS = 6


class CalibrationError(LeewayError):
    """The time was too short to measure anything worth keeping."""


def profile_key(model: LoadedModel) -> ProfileKey:
    """What a profile of this model on this host holds for."""
    info = model.engine.info
    return ProfileKey(model.digest, info.name, info.precision, info.device, info.threads)


def profile_for(
    model: LoadedModel,
    folder: Path | None,
    *,
    seconds: float = PROBE_SECONDS,
    clock_ns: Clock = time.monotonic_ns,
) -> LatencyProfile:
    """The calibrated profile in `folder` if it fits model and host, else a probe.  Not on an event loop.

    What cannot be used of the folder is logged as a warning, never an error: the server can always start.
    """
    key = profile_key(model)
    try:
        stored = load_profile(folder, key) if folder is not None else None
    except (ProfileMismatchError, InvalidProfileError, OSError) as error:
        logger.warning("the latency profile cannot be used, measuring a few cells instead: %s", error)
        stored = None
    if stored is not None and stored.configurations != _ids(model):
        logger.warning("the latency profile has other length configurations than %s, not used", model.reference)
        stored = None
    if stored is not None:
        logger.info("latency profile: %s, %d lengths, from %s", stored.measured, len(stored.lengths), folder)
        return stored
    logger.info("no latency profile of this model on this host: measuring a few cells (`leeway calibrate` makes one)")
    return probe(model, seconds=seconds, clock_ns=clock_ns)


def calibrate(
    model: LoadedModel,
    *,
    seconds: float = CALIBRATION_SECONDS,
    clock_ns: Clock = time.monotonic_ns,
    progress: Progress = lambda _line: None,
    seed: int = 0,
) -> LatencyProfile:
    """Measure every length configuration at as many window lengths as time allows.  Not on an event loop.

    Args:
        model: loaded; warmed up or not.
        seconds: at most, but for one call of the engine and the first round over texts.
        clock_ns: monotonic.
        progress: gets a line every two seconds or so.
        seed: of the order within rounds.

    Raises:
        CalibrationError: too short for several calls of each configuration at two lengths.
    """
    deadline_ns = clock_ns() + round(seconds * 1e9)
    say = NowAndThen(progress, clock_ns)
    costs = _text_costs(model, _TEXT_ROUNDS, seconds * _TEXT_SHARE, clock_ns)
    candidates = _candidates(model)
    timer = _timer(model, candidates, clock_ns, deadline_ns)
    lengths = warm_up_what_fits(timer, candidates, _WANTED_ROUNDS, _WARM_UP_CALLS, say)
    cells = [Cell(place, length) for place in range(len(model.configurations)) for length in lengths]
    _rounds(timer, cells, say, seed)
    if not cells or min(len(timer.samples.get(cell, ())) for cell in cells) < _LEAST_CALLS:
        raise CalibrationError(
            f"{seconds:g} s are too short to call each of {len(model.configurations)} length configurations "
            f"{_LEAST_CALLS} times at several lengths: give more seconds"
        )
    rows = [[timer.typical_ns(Cell(place, length)) for length in lengths] for place in range(len(model.configurations))]
    return _profile(model, lengths, np.array(rows, dtype=np.float64), timer, costs, CALIBRATED)


def probe(model: LoadedModel, *, seconds: float = PROBE_SECONDS, clock_ns: Clock = time.monotonic_ns) -> LatencyProfile:
    """Measure a few cells and estimate the others by their MACs.  Not on an event loop.

    The cheapest, the middle and the full configuration are called at a short, the mean and the longest length.
    However slow the host is, one call is made, and a profile comes out.

    Args:
        model: loaded and warmed up.
        seconds: at most, but for one call of the engine and the first round over texts.
        clock_ns: monotonic.
    """
    deadline_ns = clock_ns() + round(seconds * 1e9)
    costs = _text_costs(model, _PROBE_TEXT_ROUNDS, seconds * _TEXT_SHARE, clock_ns)
    count, grid = len(model.configurations), grid_lengths(model.window_defaults.max_length)
    mean = min(grid, key=lambda length: abs(length - model.table.mean_real_length))
    lengths = sorted({grid[0], mean, grid[-1]})
    timer = _timer(model, lengths, clock_ns, deadline_ns)
    dearest_first = [
        Cell(place, length)
        for length in reversed(lengths)
        for place in sorted({count - 1, count // 2, 0}, reverse=True)
    ]
    for cell in dearest_first:  # if time ends here, too high an estimate of the others is better than too low a one
        timer.call(cell)
    generator = np.random.default_rng(0)
    for _ in range(_PROBE_ROUNDS):
        if not timer.round([dearest_first[place] for place in generator.permutation(len(dearest_first))]):
            break
    wanted = sorted({*grid, model.positions})
    return _profile(model, wanted, _estimated(model, timer, dearest_first, wanted), timer, costs, PROBED)


def describe(profile: LatencyProfile) -> list[str]:
    """Lines of a table: length configurations by a few window lengths, milliseconds."""
    shown = sorted(spread_out(profile.lengths)[:_SHOWN_LENGTHS])
    lines = [f"{'ms per window':<14}" + "".join(f"{length:>9}" for length in shown)]
    for name, row in zip(profile.configurations, profile.window_ns, strict=True):
        times = dict(zip(profile.lengths, row, strict=True))
        lines.append(f"{name:<14}" + "".join(f"{times[length] / 1e6:>9.2f}" for length in shown))
    return lines


def _rounds(timer: CellTimer, cells: Sequence[Cell], progress: Progress, seed: int) -> None:
    """Rounds until time is out or there are enough."""
    generator = np.random.default_rng(seed)
    for turn in range(1, _MOST_ROUNDS + 1):
        if not timer.round([cells[place] for place in generator.permutation(len(cells))]):
            return
        left = max(0, timer.deadline_ns - timer.clock_ns()) / 1e9
        progress(f"{turn} rounds over {len(cells)} cells, at most {left:.0f} s left")


def _estimated(model: LoadedModel, timer: CellTimer, cells: Sequence[Cell], lengths: Sequence[int]) -> FloatArray:
    """Times of all configurations at `lengths` from those of `cells`, float64 ``[configurations, lengths]``.

    Along the lengths of a configuration that was measured, then across configurations of a length, each linear
    in MACs.  If time was too short for some of `cells`: linear in MACs through all that there are.
    """
    cost = np.array([[_macs(model, place, each) for each in lengths] for place in range(len(model.configurations))])
    known = {cell: time_ns for cell in cells if (time_ns := timer.typical_ns(cell)) is not None}
    if len(known) < len(cells):
        points = [(_macs(model, cell.configuration, cell.length), time_ns) for cell, time_ns in known.items()]
        return _through(points, cost)
    rows: dict[int, FloatArray] = {}
    for place in {cell.configuration for cell in cells}:
        own = [(_macs(model, place, cell.length), known[cell]) for cell in cells if cell.configuration == place]
        rows[place] = _through(own, cost[place])
    columns = [
        _through([(cost[place, column], row[column]) for place, row in rows.items()], cost[:, column])
        for column in range(len(lengths))
    ]
    return np.stack(columns, axis=1)


def _through(points: Iterable[tuple[float, float]], wanted: FloatArray) -> FloatArray:
    """`interpolate` through (cost, time) in any order; of equal costs the mean time."""
    times: dict[float, list[float]] = defaultdict(list)
    for cost, time_ns in points:
        times[cost].append(time_ns)
    known = sorted(times)
    return interpolate(wanted, known, [fmean(times[cost]) for cost in known])


def _macs(model: LoadedModel, place: int, length: int) -> float:
    return macs_at(model.architecture, length, model.configurations[place])


def _candidates(model: LoadedModel) -> list[int]:
    """Lengths to measure, most wanted first; last what only callers who ask for longer windows meet."""
    longest = model.window_defaults.max_length
    beyond = [model.positions] if model.positions > longest else []
    return [*spread_out(grid_lengths(longest)), *beyond]


def _timer(model: LoadedModel, lengths: Sequence[int], clock_ns: Clock, deadline_ns: int) -> CellTimer:
    windows = probe_windows(model.tokenizer, ordinary_text(_SAMPLE_WORDS), lengths)
    return CellTimer(model.engine, model.configurations, windows, clock_ns, deadline_ns)


def _text_costs(model: LoadedModel, rounds: int, seconds: float, clock_ns: Clock) -> TextCosts:
    spans = SpanSettings(max_answer=model.max_answer)
    return measure_text_costs(
        model.tokenizer, model.window_defaults, spans, rounds=rounds, seconds=seconds, clock_ns=clock_ns
    )


def _profile(  # noqa: PLR0913, PLR0917 - the parts of a profile
    model: LoadedModel,
    lengths: Sequence[int],
    window_ns: NDArray[np.float64],
    timer: CellTimer,
    costs: TextCosts,
    measured: str,
) -> LatencyProfile:
    return LatencyProfile(
        key=profile_key(model),
        configurations=_ids(model),
        lengths=tuple(lengths),
        window_ns=tuple(map(tuple, window_ns.tolist())),
        residuals=timer.residuals(RESIDUALS),
        answer_ns=costs.answer_ns,
        answer_ns_per_window=costs.answer_ns_per_window,
        tokenize_ns=costs.tokenize_ns,
        tokenize_ns_per_char=costs.tokenize_ns_per_char,
        measured=measured,
        length_step=model.engine.info.length_step,
    )


def _ids(model: LoadedModel) -> tuple[str, ...]:
    return tuple(configuration.id for configuration in model.configurations)
