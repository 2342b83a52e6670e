"""CPU pressure: what others than this process take of the CPUs that it may run on.

The server's own inference keeps CPUs busy too.  If that counted, the server would cheapen its answers because it
answers; so the process's own CPU time is taken out of every figure here.

Linux only, from plain files under ``/proc`` and ``/sys``.  What a host does not have (macOS, gVisor, an old kernel,
a file that may not be read or makes no sense) is None and counts as no pressure; nothing here raises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from server.proc_files import Throttling, control_groups, cpu_ticks, stalled_us, thread_waits_ns, throttling


@dataclass(frozen=True, slots=True)
class PressureSample:
    """What happened between two calls of `PressureReader.sample`: plain differences, nothing averaged by the kernel.

    "CPUs" as a unit is CPU seconds per second.  None: the host does not tell.

    Attributes:
        interval_ns: between the two calls; 0 in the first sample, where all else is None.
        cpus: CPUs that this process may run on and whose counters are sound; hot-unplugged ones are not.
        own_cpus: used by this process, all its threads together, CPUs.
        others_cpus: used on `cpus` by anyone else (processes, interrupts), CPUs, 0 to `cpus`.
        steal_cpus: taken from `cpus` by the hypervisor, CPUs.
        waiting_cpus: threads of this process that could run but waited for a CPU, on average.  They may have waited
            for each other.
        throttled_cpus: CPUs on which the control group had used up its quota and was stopped, on average; of the
            group and its parents, the one most throttled.
        throttled_periods: share of the quota's periods in which that happened, 0 to 1; likewise.
        waited: share of the interval in which some task of the control group (of the host, where groups do not tell)
            waited for a CPU, from pressure stall information, 0 to 1.  It cannot say who waited for whom, our own
            threads for each other included, so `pressure` leaves it out: it is for people to look at.
    """

    interval_ns: int = 0
    cpus: int | None = None
    own_cpus: float | None = None
    others_cpus: float | None = None
    steal_cpus: float | None = None
    waiting_cpus: float | None = None
    throttled_cpus: float | None = None
    throttled_periods: float | None = None
    waited: float | None = None


def pressure(sample: PressureSample, threads: int) -> float:
    """Share of the capacity of `threads` inference threads that is not to be had, 0 to 1.

    With ``N`` usable CPUs, ``T = min(threads, N)``, ``O`` CPUs used by others, ``U`` used by ourselves and ``W`` that
    our threads waited for::

        excess    = max(0, T + O - N)              what others take beyond the CPUs that are idle or spare
        a         = min(1, (U + W) / T)            how much of the interval we worked, or wanted to
        crowded   = min(W, excess) / max(T, U + W) + (1 - a) excess / (T + O)
        stolen    = steal / max(T, U + O + steal)
        throttled = min(1, throttled / T)
        pressure  = 1 - (1 - crowded) (1 - stolen) (1 - throttled)

    On 2 CPUs one busy process of another takes nothing from 1 inference thread: its ``excess`` is 0.  The first term of
    ``crowded`` is measured: the share of the CPU time we wanted that we spent waiting, as far as others can have
    caused it (our threads wait for each other too).  The second foresees what we would lose if we worked: equal threads
    share equally, ``T`` of ours and ``O`` of theirs on ``N`` CPUs, so ``1 - N / (T + O)`` is lost.  Both agree where
    the scheduler is fair: two others that never stop, on 2 CPUs with ``T = 2``, are a pressure of 1/2 whether we work
    or not, and the figure does not follow our own load.

    Weaknesses: others that are idle at the moment are not foreseen.  While we do not work, more than ``N`` busy
    threads of others look like ``N`` of them, and others of lower priority look like equals, until we work again.
    Where waiting is not told, ``excess min(1, U / T)`` stands for it, and the pressure comes out a little low.

    Args:
        sample: of an interval of at least 0.1 s: the kernel counts in ticks of 1 to 10 ms.
        threads: of one inference, at least 1.
    """
    stopped = min(1.0, (sample.throttled_cpus or 0.0) / _useful_threads(sample, threads))
    return 1.0 - (1.0 - _crowded(sample, threads)) * (1.0 - _stolen(sample, threads)) * (1.0 - stopped)


def _useful_threads(sample: PressureSample, threads: int) -> int:
    """Threads beyond the CPUs have no capacity that anyone could take."""
    return max(1, threads if sample.cpus is None else min(threads, sample.cpus))


def _crowded(sample: PressureSample, threads: int) -> float:
    if sample.cpus is None or sample.others_cpus is None:
        return 0.0
    useful, own = _useful_threads(sample, threads), sample.own_cpus or 0.0
    excess = max(0.0, useful + sample.others_cpus - sample.cpus)
    waiting = excess * min(1.0, own / useful) if sample.waiting_cpus is None else sample.waiting_cpus
    wanted = own + waiting
    foreseen = (1.0 - min(1.0, wanted / useful)) * excess / (useful + sample.others_cpus)
    return min(waiting, excess) / max(useful, wanted) + foreseen


def _stolen(sample: PressureSample, threads: int) -> float:
    if not sample.steal_cpus:
        return 0.0
    wanted = (sample.own_cpus or 0.0) + (sample.others_cpus or 0.0) + sample.steal_cpus
    return sample.steal_cpus / max(_useful_threads(sample, threads), wanted)


@dataclass(frozen=True, slots=True)
class _Counters:
    """One look at all counters.

    Attributes:
        at_ns: monotonic.
        own_ns: CPU time of this process.
        ticks: of each usable CPU: busy, idle, stolen; None if not told.
        waited_ns: of each thread of this process, by its id; None if not told.
        throttling: of each control group that has a quota's statistics.
        stalled_us: total of pressure stall information; None if not told.
    """

    at_ns: int
    own_ns: int
    ticks: dict[int, tuple[int, int, int]] | None
    waited_ns: dict[str, int] | None
    throttling: dict[Path, Throttling]
    stalled_us: int | None


def _affinity() -> AbstractSet[int] | None:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


class PressureReader:
    """Reads the counters; a sample takes about a millisecond and may be taken on the event loop."""

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        own_cpu_ns: Callable[[], int] = time.process_time_ns,
        affinity: Callable[[], AbstractSet[int] | None] = _affinity,
    ) -> None:
        """Find the control groups; nothing is counted before the first `sample`.

        Args:
            root: where ``proc`` and ``sys`` are found; another folder in tests.
            clock_ns: monotonic.
            own_cpu_ns: CPU time of this process.
            affinity: CPUs that the calling thread may run on; None for all.
        """
        self._root = root
        self._clock_ns = clock_ns
        self._own_cpu_ns = own_cpu_ns
        self._affinity = affinity
        folders = control_groups(root)
        self._limited = [folder for folder in folders if throttling(folder) is not None]
        stalls = [*(folder / "cpu.pressure" for folder in folders), root / "proc/pressure/cpu"]
        self._stalls = next((path for path in stalls if stalled_us(path) is not None), None)
        self._before: _Counters | None = None

    def sample(self) -> PressureSample:
        """What happened since the call before; all None at the first call, or if the clock has not moved."""
        now, before = self._look(), self._before
        if before is not None and now.at_ns <= before.at_ns:
            return PressureSample()
        self._before = now
        return _difference(before, now) if before is not None else PressureSample()

    def _look(self) -> _Counters:
        limits = {folder: throttling(folder) for folder in self._limited}
        return _Counters(
            at_ns=self._clock_ns(),
            own_ns=self._own_cpu_ns(),
            ticks=cpu_ticks(self._root, self._affinity()),
            waited_ns=thread_waits_ns(self._root),
            throttling={folder: counted for folder, counted in limits.items() if counted is not None},
            stalled_us=stalled_us(self._stalls) if self._stalls is not None else None,
        )


def _difference(before: _Counters, now: _Counters) -> PressureSample:
    interval_ns = now.at_ns - before.at_ns
    own_cpus = max(0, now.own_ns - before.own_ns) / interval_ns
    shares = list(_cpu_shares(before.ticks or {}, now.ticks or {}))
    busy_cpus = sum(busy for busy, _ in shares)
    throttled_ns, throttled_periods = _most_throttled(before.throttling, now.throttling)
    waited_us = _risen(before.stalled_us, now.stalled_us)
    return PressureSample(
        interval_ns=interval_ns,
        cpus=len(shares) or None,
        own_cpus=own_cpus,
        others_cpus=max(0.0, busy_cpus - own_cpus) if shares else None,
        steal_cpus=sum(stolen for _, stolen in shares) if shares else None,
        waiting_cpus=_waiting_cpus(before.waited_ns, now.waited_ns, interval_ns),
        throttled_cpus=None if throttled_ns is None else throttled_ns / interval_ns,
        throttled_periods=throttled_periods,
        waited=None if waited_us is None else min(1.0, waited_us * 1000 / interval_ns),
    )


def _cpu_shares(
    before: dict[int, tuple[int, int, int]], now: dict[int, tuple[int, int, int]]
) -> Iterator[tuple[float, float]]:
    """Busy and stolen share of each CPU that counted on without a reset."""
    for cpu in before.keys() & now.keys():
        busy, idle, stolen = (late - early for early, late in zip(before[cpu], now[cpu], strict=True))
        total = busy + idle + stolen
        # A CPU that comes back counts from zero; one that did not tick at all (gVisor) tells nothing.
        if min(busy, idle, stolen) >= 0 and total > 0:
            yield busy / total, stolen / total


def _waiting_cpus(before: dict[str, int] | None, now: dict[str, int] | None, interval_ns: int) -> float | None:
    if before is None or now is None:
        return None
    waited_ns = 0
    for thread, total in now.items():
        start = before.get(thread, 0)
        waited_ns += total - start if total >= start else total  # less than before: a new thread under an old id
    return waited_ns / interval_ns


def _most_throttled(before: dict[Path, Throttling], now: dict[Path, Throttling]) -> tuple[int | None, float | None]:
    """Throttled nanoseconds and share of periods, the highest of all groups: times of nested groups overlap."""
    times, shares = [], []
    for folder in before.keys() & now.keys():
        early, late = before[folder], now[folder]
        throttled_ns = _risen(early.throttled_ns, late.throttled_ns)
        periods, throttled = late.periods - early.periods, late.throttled_periods - early.throttled_periods
        if throttled_ns is not None:
            times.append(throttled_ns)
            shares.append(min(1.0, throttled / periods) if periods > 0 and throttled >= 0 else 0.0)
    return max(times, default=None), max(shares, default=None)


def _risen(before: int | None, now: int | None) -> int | None:
    """The difference; None if one is not told or the counter began anew."""
    return now - before if before is not None and now is not None and now >= before else None
