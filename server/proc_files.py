"""Counters of Linux as plain files: CPU ticks, waiting threads, throttled control groups, stalls.

A file that is missing, may not be read or makes no sense gives None; nothing here raises.

Paths are joined as strings: pathlib interns every part of a path, and the table of interned strings keeps a place for
each that has gone.  A few samples a second filled it in a quarter of an hour; then it doubled, by a megabyte.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from server.engine.threads import _group_folders, _read


@dataclass(frozen=True, slots=True)
class Throttling:
    """What the quota of a control group did so far.

    Attributes:
        periods: of the quota that have passed while the group had work.
        throttled_periods: those in which it used its quota up.
        throttled_ns: for how long it was stopped then, the sum over CPUs.
    """

    periods: int
    throttled_periods: int
    throttled_ns: int


def control_groups(root: Path) -> list[Path]:
    """Folders of this process's CPU control group and of its parents; some may not exist."""
    return _group_folders(root)


def cpu_ticks(root: Path, affinity: AbstractSet[int] | None) -> dict[int, tuple[int, int, int]] | None:
    """Busy, idle and stolen ticks of each CPU in `affinity`, from lines ``cpu0 user nice system idle iowait ...``."""
    text = _read(_inside(root, "proc/stat"))
    if text is None:
        return None
    ticks = {}
    for line in text.splitlines():
        name, *fields = line.split() or [""]
        number = _number(name[3:]) if name.startswith("cpu") else None
        counts = [_number(field) for field in fields[:8]]
        if number is None or (affinity is not None and number not in affinity):
            continue
        known = [count for count in counts if count is not None]
        if len(known) == len(counts) >= 4:
            user, nice, system, idle, iowait, irq, softirq, stolen = (*known, 0, 0, 0, 0)[:8]
            ticks[number] = (user + nice + system + irq + softirq, idle + iowait, stolen)
    return ticks


def thread_waits_ns(root: Path) -> dict[str, int] | None:
    """Second number of ``schedstat`` of each thread: nanoseconds it could run but had no CPU."""
    folder = _inside(root, "proc/self/task")
    try:
        threads = os.listdir(folder)  # noqa: PTH208 - see above
    except OSError:
        return None
    waited = {}
    for thread in threads:
        fields = (_read(f"{folder}/{thread}/schedstat") or "").split()
        nanoseconds = _number(fields[1]) if len(fields) >= 2 else None
        if nanoseconds is not None:
            waited[thread] = nanoseconds
    return waited or None


def throttling(folder: Path) -> Throttling | None:
    """Counters of ``cpu.stat``, version 1 (nanoseconds) or 2 (microseconds); None without those of a quota."""
    found: dict[str, int] = {}
    for line in (_read(_inside(folder, "cpu.stat")) or "").splitlines():
        fields = line.split()
        count = _number(fields[1]) if len(fields) == 2 else None
        if count is not None:
            found[fields[0]] = count
    nanoseconds = found.get("throttled_time", found.get("throttled_usec", -1) * 1000)
    if nanoseconds < 0:
        return None
    return Throttling(found.get("nr_periods", 0), found.get("nr_throttled", 0), nanoseconds)


def stalled_us(path: Path) -> int | None:
    """Microseconds of the line ``some avg10=0.00 avg60=0.00 avg300=0.00 total=123``."""
    for line in (_read(path) or "").splitlines():
        kind, *fields = line.split() or [""]
        if kind == "some":
            totals = [field.removeprefix("total=") for field in fields if field.startswith("total=")]
            return _number(totals[0]) if totals else None
    return None


def _inside(folder: Path, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - see above


def _number(text: str) -> int | None:
    """A count of the kernel; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
