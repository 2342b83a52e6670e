"""What must hold, with figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulation.contest import BASELINES, FIXED, ORACLE, OURS
from benchmarks.simulation.scores import Scores

Results = Mapping[str, Sequence[Mapping[str, Scores]]]
"""Trace to one mapping per seed, of policy to figures."""

NOT_BELOW = -0.3
ABOVE_FIXED = 3.0
CLOSED_SHARE = 0.5
NO_GAP = 0.05
LATE_PERCENT = 1.0
SETTLING_PERCENT = 5.0
STEP_GOODPUT_PERCENT = 90.0

_ABOVE_FIXED_ON = ("burst_cv4", "mixed_budgets", "diurnal", "step_300")
_CLOSED_ON = ("poisson_50", "poisson_80", "poisson_100")
_SLOW = "slow_2x"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        trace: on which trace.
        text: what, in words.
        figure: the worst over all seeds.
        limit: of the figure.
        holds: whether it does.
    """

    trace: str
    text: str
    figure: float
    limit: float
    holds: bool

    def __str__(self) -> str:
        mark = "pass" if self.holds else "MISS"
        return f"{mark}  {self.trace:14s} {self.text}: {self.figure:.2f} (limit {self.limit:g})"


def checks(results: Results) -> list[Check]:
    """All that can be checked of `results`, each on its worst seed; nothing without our own policy."""
    found: list[Check] = []
    for trace, seeds in results.items():
        if all(OURS in each for each in seeds) and seeds:
            found.extend(_of_trace(trace, seeds))
    return found


def _of_trace(trace: str, seeds: Sequence[Mapping[str, Scores]]) -> Iterator[Check]:
    others = [name for name in BASELINES if all(name in each for each in seeds)]
    if others:
        margin, name = min(_margin(each, others) for each in seeds)
        text = f"effective F1 above the best baseline (worst seed: {name})"
        yield Check(trace, text, margin, NOT_BELOW, margin >= NOT_BELOW)
    fixed = [name for name in FIXED if name in others]
    if fixed and trace in _ABOVE_FIXED_ON:
        margin, name = min(_margin(each, fixed) for each in seeds)
        text = f"effective F1 above the best fixed one (worst seed: {name})"
        yield Check(trace, text, margin, ABOVE_FIXED, margin >= ABOVE_FIXED)
    if others and trace in _CLOSED_ON and all(ORACLE in each for each in seeds):
        closed = min(_closed(each, others) for each in seeds)
        yield Check(trace, "gap from the best baseline to oracle closed", closed, CLOSED_SHARE, closed >= CLOSED_SHARE)
    yield from _promises(trace, [each[OURS] for each in seeds])


def _promises(trace: str, ours: Sequence[Scores]) -> Iterator[Check]:
    settling = [each.late_settling for each in ours if each.late_settling is not None]
    settled = [each.late_settled for each in ours if each.late_settled is not None]
    if settling and settled:
        text = "late share in the 10 s after the change, percent"
        yield Check(trace, text, max(settling), SETTLING_PERCENT, max(settling) <= SETTLING_PERCENT)
        text = "late share from 30 s after the change, percent"
        yield Check(trace, text, max(settled), LATE_PERCENT, max(settled) < LATE_PERCENT)
    elif trace != _SLOW:
        for label in ours[0].late_by_class:
            worst = max(each.late_by_class[label] for each in ours)
            yield Check(trace, f"late share of class {label}, percent", worst, LATE_PERCENT, worst <= LATE_PERCENT)
    goodput = [each.step_goodput for each in ours if each.step_goodput is not None]
    if goodput:
        least = min(goodput)
        text = "goodput in the step, percent of what the cheapest configuration could answer"
        yield Check(trace, text, least, STEP_GOODPUT_PERCENT, least >= STEP_GOODPUT_PERCENT)


def _margin(scores: Mapping[str, Scores], others: Sequence[str]) -> tuple[float, str]:
    best = max(others, key=lambda name: scores[name].effective_f1)
    return scores[OURS].effective_f1 - scores[best].effective_f1, best


def _closed(scores: Mapping[str, Scores], others: Sequence[str]) -> float:
    """Share of the gap that is closed; all of a gap below `NO_GAP` points."""
    best = max(scores[name].effective_f1 for name in others)
    gap = scores[ORACLE].effective_f1 - best
    return 1.0 if gap < NO_GAP else (scores[OURS].effective_f1 - best) / gap
