"""What a request will take: profile x trim x scale factor x calibrated spread, and what to keep back for stalls.

See README.md in this folder for the formulas and for how the bias of choosing by prediction is handled.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.routing.profile import LatencyProfile
from server.routing.quantile import QuantileTracker
from server.routing.scale import ScaleFactor
from server.routing.stalls import Stalls

FloatArray = NDArray[np.float64]

_LENGTH_EDGES = (64, 128, 256, 512, 2048)  # tokens over all windows
_CONFIGURATION_CLASSES = 3
_THIN = 400.0  # ratios after which a class trusts its own tail as much as the common one
_REFINE_GAIN = 0.02
_REFINE_LIMIT = 2.0
_LEAST_ANSWER_NS = 100_000.0
_BEYOND = 0.02  # share of ratios beyond the tail; what they take beyond it counts as a stall
_GAIN = 0.05
_MOST_TAIL = 1.6  # a larger ratio is no spread of service times but a stall, which must not shut the door
_MOST_ANSWER_TAIL = 4.0


class Work(NamedTuple):
    """The inference of one request, in times of the profile.

    Attributes:
        windows: number of windows.
        length_class: for the tail.
        profile_ns: time of all windows per configuration as the profile has it, float64 ``[C]``.
        base_ns: the same, refined by traffic; neither trimmed nor scaled.
        answer_base_ns: profile time from the end of inference to the answer.
    """

    windows: int
    length_class: int
    profile_ns: FloatArray
    base_ns: FloatArray
    answer_base_ns: float


class _ClassTail:
    """One common tail and one per class; a class with little news leans on the common one."""

    def __init__(self, initial: float, classes: int) -> None:
        self._common, *self._own = (
            QuantileTracker(initial, miss=_BEYOND, gain=_GAIN, ceiling=_MOST_TAIL) for _ in range(1 + classes)
        )

    def value(self, index: int) -> float:
        own = self._own[index]
        share = own.count / (own.count + _THIN)
        return float(self._common.value ** (1.0 - share) * own.value**share)

    def observe(self, index: int, ratio: float) -> None:
        self._common.observe(ratio)
        self._own[index].observe(ratio)

    def fade(self, share: float) -> None:
        for tracker in (self._common, *self._own):
            tracker.fade(share)


class LatencyModel:
    """Predicts service times of one host and learns from those observed; one thread, no clock of its own.

    Attributes:
        profile: of this host.
        trim: what the profile's times are multiplied with before the scale factor; moved by the slow loop alone.
        first_tail: upper quantile over expectation before anything is learned.
        learned_ns: when inference was last observed; minus infinity before.
    """

    def __init__(self, profile: LatencyProfile, *, late_share: float = 0.005) -> None:
        """Start from `profile`.

        Args:
            profile: of this host.
            late_share: share of requests that may be late in the long run although they need not have been.

        Raises:
            ValueError: a share outside (0, 1).
        """
        self.profile = profile
        self.trim = 1.0
        self.learned_ns = -math.inf
        self._scale = ScaleFactor()
        configurations = len(profile.configurations)
        self._group = [i * _CONFIGURATION_CLASSES // configurations for i in range(configurations)]
        first = profile.residual(1.0 - _BEYOND)
        self._tail = _ClassTail(first, _CONFIGURATION_CLASSES * (len(_LENGTH_EDGES) + 1))
        self.first_tail = self._tail.value(0)
        self._answer_tail = QuantileTracker(max(2.0, first), miss=_BEYOND, gain=_GAIN, ceiling=_MOST_ANSWER_TAIL)
        self._stalls = Stalls(late_share)
        self._refined = np.ones((configurations, len(_LENGTH_EDGES) + 1))
        self._last_seen_ns: list[int | None] = [None] * configurations
        self._tails = np.ones((len(_LENGTH_EDGES) + 1, configurations))
        for length_class in range(len(_LENGTH_EDGES) + 1):
            self._refresh(length_class)

    def work(self, window_lengths: Sequence[int], lengths_alike: NDArray[np.int64] | None = None) -> Work:
        """The work that windows of these real lengths are.

        Args:
            window_lengths: tokens.
            lengths_alike: see `server.routing.ticket.Request`.

        Raises:
            ValueError: no window.
        """
        if not window_lengths:
            raise ValueError("a request has at least one window")
        length_class = bisect_left(_LENGTH_EDGES, sum(window_lengths))
        if lengths_alike is None:
            times = self.profile.inference_ns(window_lengths)
        else:
            times = self.profile.inference_ns_of_each(lengths_alike)
        answer = max(_LEAST_ANSWER_NS, self.profile.answer_time_ns(len(window_lengths)))
        return Work(len(window_lengths), length_class, times, times * self._refined[:, length_class], answer)

    def set_trim(self, trim: float) -> None:
        """Move the trim; the scale factor moves against it, so that no prediction jumps."""
        self._scale.rebase(trim / self.trim)
        self.trim = trim

    def factor(self, now_ns: int) -> float:
        """Trim x scale factor: how many times the profile's times are to be expected now."""
        return self.trim * self._scale.value(now_ns)

    def scale(self, now_ns: int) -> float:
        """The fast common scale factor alone."""
        return self._scale.value(now_ns)

    def tails(self, length_class: int, now_ns: int) -> FloatArray:
        """Upper quantile over expectation of inference per configuration, float64 ``[C]``; not to be written to.

        Stalls are beside it.

        In silence it returns to that of the profile's residuals as the scale factor does to 1, for the same reason.
        """
        row: FloatArray = self._tails[length_class]
        memory = self._scale.memory(now_ns)
        if memory == 1.0:
            return row
        faded: FloatArray = self.first_tail ** (1.0 - memory) * row**memory
        return faded

    def answer_upper_ns(self, work: Work, factor: float, now_ns: int) -> float:
        """Upper quantile of the time from the end of inference to the answer, on a host that is slower by `factor`."""
        return _answer_ns(work, factor) * self._answer_tail.faded(self._scale.memory(now_ns))

    def stall_ns(self, spare_ns: float, at_risk_ns: float) -> float:
        """What to keep back for stalls of what could be, `spare_ns`, over `at_risk_ns`: see `Stalls`."""
        return self._stalls.allowance_ns(spare_ns, at_risk_ns)

    def observe(  # noqa: PLR0913 - one observation
        self, work: Work, configuration: int, *, share: float, expected_ns: float, observed_ns: int, now_ns: int
    ) -> None:
        """Learn from inference that has ended.

        Args:
            work: of the request.
            configuration: its index.
            share: part of `work` that ran without a break, in (0, 1].
            expected_ns: what was expected of that part at dispatch (base x factor of then).
            observed_ns: dispatch to the end of inference.
            now_ns: of the end.
        """
        if observed_ns <= 0 or expected_ns <= 0.0:
            return
        self._forget(now_ns)
        tail = float(self._tails[work.length_class][configuration])
        self._stalls.observe(observed_ns - expected_ns * tail, observed_ns)
        base = float(work.base_ns[configuration]) * share
        self._refine(work, configuration, observed_ns / (base * self.factor(now_ns)))
        self._scale.observe(observed_ns / (base * self.trim), now_ns)
        if observed_ns <= _MOST_TAIL * expected_ns:
            self._tail.observe(self._class(configuration, work.length_class), observed_ns / expected_ns)
            self._refresh(work.length_class)
        self._last_seen_ns[configuration] = self.learned_ns = now_ns

    def observe_answer(self, work: Work, factor: float, observed_ns: int) -> None:
        """Learn from the time between the end of inference and the answer; `factor` is that of the dispatch."""
        expected_ns = _answer_ns(work, factor)
        self._stalls.observe(observed_ns - expected_ns * self._answer_tail.value, observed_ns)
        self._answer_tail.observe(observed_ns / expected_ns)

    def stalest(self, now_ns: int, older_than_ns: int, below: int) -> int | None:
        """Of the first `below` configurations the one not observed for longest, if longer than `older_than_ns`.

        Never observed counts as observed when first asked.
        """
        ages = []
        for index, seen in enumerate(self._last_seen_ns):
            if seen is None:
                self._last_seen_ns[index] = now_ns
            ages.append(0 if seen is None else now_ns - seen)
        oldest = max(range(below), key=ages.__getitem__, default=None)
        return oldest if oldest is not None and ages[oldest] > older_than_ns else None

    def _forget(self, now_ns: int) -> None:
        """After a silence, make for good of what `tails` only pretended."""
        memory = self._scale.memory(now_ns)
        if memory == 1.0:
            return
        self._tail.fade(memory)
        self._answer_tail.fade(memory)
        for length_class in range(len(self._tails)):
            self._refresh(length_class)

    def _refine(self, work: Work, configuration: int, relative: float) -> None:
        """Move the profile's cell a little toward what was seen beyond the common factor."""
        step = min(max(relative, 0.5), 2.0) ** _REFINE_GAIN
        cell = self._refined[configuration, work.length_class] * step
        self._refined[configuration, work.length_class] = min(max(cell, 1 / _REFINE_LIMIT), _REFINE_LIMIT)

    def _refresh(self, length_class: int) -> None:
        values = [
            self._tail.value(self._class(group, length_class, grouped=True)) for group in range(_CONFIGURATION_CLASSES)
        ]
        self._tails[length_class] = [values[group] for group in self._group]

    def _class(self, configuration: int, length_class: int, *, grouped: bool = False) -> int:
        group = configuration if grouped else self._group[configuration]
        return group * (len(_LENGTH_EDGES) + 1) + length_class


def _answer_ns(work: Work, factor: float) -> float:
    """Expected time from the end of inference to the answer.

    A host that is slow at inference is slow at this too, but what speeds inference up, or slows it down by more than
    half, need not be in the same measure: the tail learns the rest.
    """
    return work.answer_base_ns * min(max(factor, 1.0), 2.0)
