"""The figures as text and as the JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.simulation.checks import Results
from benchmarks.simulation.scores import Scores

FIGURES = ("effective_f1", "slo_attainment", "late_share", "goodput")


def table(trace: str, seeds: Sequence[Mapping[str, Scores]]) -> Iterator[str]:
    """Lines: one per policy, each figure as the median over the seeds and its range."""
    yield f"{trace} ({len(seeds)} seeds: median [least .. greatest])"
    yield f"  {'policy':15s} {'effective F1':24s} {'in time, %':24s} {'late of admitted, %':24s} goodput, 1/s"
    for policy in seeds[0]:
        cells = [_cell([float(getattr(each[policy], name)) for each in seeds]) for name in FIGURES]
        yield f"  {policy:15s} {' '.join(f'{cell:24s}' for cell in cells).rstrip()}"


def _cell(values: Sequence[float]) -> str:
    return f"{np.median(values):6.2f} [{min(values):6.2f} .. {max(values):6.2f}]"


def traces_document(results: Results) -> dict[str, Any]:
    """Trace, policy, figure; medians over the seeds, and every seed's own figures under ``seeds``."""
    return {
        trace: {
            policy: {
                **{name: round(float(np.median([getattr(s[policy], name) for s in seeds])), 4) for name in FIGURES},
                "seeds": [_seed(each[policy]) for each in seeds],
            }
            for policy in seeds[0]
        }
        for trace, seeds in results.items()
    }


def _seed(scores: Scores) -> dict[str, Any]:
    found: dict[str, Any] = {name: round(float(getattr(scores, name)), 4) for name in FIGURES}
    if scores.late_by_class:
        found["late_by_class"] = {label: round(share, 4) for label, share in scores.late_by_class.items()}
        found["outcomes"] = scores.outcomes
    for name in ("late_settling", "late_settled", "step_goodput"):
        if getattr(scores, name) is not None:
            found[name] = round(float(getattr(scores, name)), 4)
    return found
