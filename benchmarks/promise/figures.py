"""Small sums over replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from benchmarks.promise.client import Reply
from benchmarks.report import Document


def percentiles(values: Sequence[float], wanted: Sequence[int] = (50, 95, 99)) -> Document:
    """``p50`` and so on, three decimals; nothing of nothing."""
    if not values:
        return {}
    return {f"p{each}": round(float(np.percentile(values, each)), 3) for each in wanted}


def answered(replies: Sequence[Reply]) -> list[Reply]:
    """Those with status 200."""
    return [reply for reply in replies if reply.status == 200]


def statuses(replies: Sequence[Reply]) -> dict[str, int]:
    """How many of each status, 0 for a broken connection."""
    return {str(status): count for status, count in sorted(Counter(reply.status for reply in replies).items())}


def configurations(replies: Sequence[Reply]) -> dict[str, int]:
    """How many answers of each length configuration, most first."""
    return dict(Counter(str(reply.configuration) for reply in answered(replies)).most_common())


def mean_f1(replies: Sequence[Reply]) -> float | None:
    """Mean held-out F1 of the configurations that answered, percent; None without an answer."""
    found = [reply.expected_f1 for reply in answered(replies) if reply.expected_f1 is not None]
    return fmean(found) if found else None


def share(part: int, whole: int) -> float | None:
    """0 to 1, four decimals; None of nothing."""
    return round(part / whole, 4) if whole else None
