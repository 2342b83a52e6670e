"""Engine times of this host: cells of length configuration and window length, called in interleaved rounds.

The speed of a host drifts.  A round calls every cell once, in an order of its own, so that what slows the host
for a while slows all cells; and a cell's time is the median over rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from model_store.length_config import LengthConfiguration
from reading.tokens import TextTokenizer
from server.engine.interface import Engine
from server.engine.probe import QUESTION_TOKENS, ProbeWindow

Clock = Callable[[], int]
"""Integer nanoseconds of a monotonic clock."""

Progress = Callable[[str], None]
"""Takes a line about what is going on."""

GRID_STEP = 16
"""Windows are measured at multiples of this many tokens; the bucket step of the engine that pads to one."""

_EVERY_NS = 2_000_000_000


class NowAndThen:
    """A `Progress` that passes on at most one line in two seconds."""

    def __init__(self, progress: Progress, clock_ns: Clock) -> None:
        self._progress = progress
        self._clock_ns = clock_ns
        self._said_ns = clock_ns()

    def __call__(self, line: str) -> None:
        """Pass `line` on, or drop it."""
        now_ns = self._clock_ns()
        if now_ns - self._said_ns >= _EVERY_NS:
            self._said_ns = now_ns
            self._progress(line)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is timed: one window of `length` tokens under the configuration of that index, 0 the cheapest."""

    configuration: int
    length: int


@dataclass(slots=True)
class CellTimer:
    """Times calls of the engine and stops before a deadline.

    Attributes:
        engine: warmed up or not.
        configurations: cheapest first.
        windows: by length.
        clock_ns: monotonic.
        deadline_ns: no call is begun that would end later if it took as long as the one before in its cell.
        last_ns: what the last call of each cell took.
        samples: what every call took that counts, by cell.
    """

    engine: Engine
    configurations: Sequence[LengthConfiguration]
    windows: dict[int, ProbeWindow]
    clock_ns: Clock
    deadline_ns: int
    last_ns: dict[Cell, int] = field(default_factory=dict)
    samples: dict[Cell, list[int]] = field(default_factory=dict)

    def call(self, cell: Cell) -> bool:
        """Call once without counting it; False, and no call, if time is too short for it."""
        began = self.clock_ns()
        if began + self.last_ns.get(cell, 0) >= self.deadline_ns:
            return False
        self.engine.run([self.windows[cell.length]], self.configurations[cell.configuration])
        self.last_ns[cell] = self.clock_ns() - began
        return True

    def round(self, cells: Sequence[Cell]) -> bool:
        """Call every cell once, in that order, and count it; False if time ran out in between."""
        for cell in cells:
            if not self.call(cell):
                return False
            self.samples.setdefault(cell, []).append(self.last_ns[cell])
        return True

    def typical_ns(self, cell: Cell) -> float | None:
        """Median of the calls that count, else the last call, else None; at least a nanosecond."""
        times = self.samples.get(cell) or ([self.last_ns[cell]] if cell in self.last_ns else [])
        return max(1.0, float(median(times))) if times else None

    def residuals(self, count: int) -> tuple[float, ...]:
        """`count` quantiles of call / median over all cells with several calls; 1 if there is none."""
        ratios = [np.maximum(times, 1.0) / max(1.0, median(times)) for times in self.samples.values() if len(times) > 1]
        pooled = np.concatenate(ratios) if ratios else np.ones(1)
        return tuple(np.quantile(pooled, (np.arange(count) + 0.5) / count).tolist())


def probe_windows(tokenizer: TextTokenizer, text: str, lengths: Sequence[int]) -> dict[int, ProbeWindow]:
    """Windows of exactly `lengths` (5 at least) tokens: question and context out of `text`, repeated as need be."""
    pieces = tokenizer.encode(text).ids
    special = tokenizer.special
    windows = {}
    for length in lengths:
        asked = min(QUESTION_TOKENS, (length - 3) // 2)
        token_ids = np.resize(pieces, length).astype(np.int32)
        token_ids[0], token_ids[asked + 1], token_ids[-1] = special.cls_id, special.sep_id, special.sep_id
        windows[length] = ProbeWindow(token_ids, asked + 2)
    return windows


def grid_lengths(longest: int, step: int = GRID_STEP) -> tuple[int, ...]:
    """Multiples of `step` up to `longest`, and `longest` itself."""
    return (*range(step, longest, step), longest)


def spread_out(lengths: Sequence[int]) -> list[int]:
    """`lengths` in the order in which they are worth measuring.

    The longest, the shortest, then always the one that is farthest, as a ratio, from those before: however many
    are taken, they are spread like a geometric series.
    """
    left = sorted(lengths)
    chosen = [left.pop()]
    if left:
        chosen.append(left.pop(0))
    while left:
        distances = [min(abs(math.log(each / other)) for other in chosen) for each in left]
        chosen.append(left.pop(int(np.argmax(distances))))
    return chosen


def warm_up_what_fits(
    timer: CellTimer, lengths: Sequence[int], rounds: int, warm_up_calls: int, progress: Progress
) -> list[int]:
    """Warm up length after length as long as time is left to call all cells so far `rounds` times.

    Args:
        timer: does it.
        lengths: most wanted first; the first two are taken in any case, as far as time goes.
        rounds: wanted later.
        warm_up_calls: of each cell.
        progress: gets a line about each length.

    Returns:
        The lengths that were warmed up under every configuration, rising.
    """
    ready: list[int] = []
    needed_ns = most_ns = 0
    for length in lengths:
        cells = [Cell(place, length) for place in range(len(timer.configurations))]
        if len(ready) >= 2 and timer.clock_ns() + needed_ns + most_ns >= timer.deadline_ns:
            break
        if not all(timer.call(cell) for _ in range(warm_up_calls) for cell in cells):
            break
        ready.append(length)
        once_ns = sum(timer.last_ns[cell] for cell in cells)
        needed_ns += rounds * once_ns
        most_ns = max(most_ns, (rounds + warm_up_calls) * once_ns)  # what the next length may need at worst
        progress(f"warmed up windows of {length} tokens, {len(ready)} of at most {len(lengths)} lengths")
    return sorted(ready)
