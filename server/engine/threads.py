"""Threads that this process may use: the CPU quota of its control groups and its affinity.

Pools sized from the host's cores ignore container limits; engines are therefore told a number.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def available_threads(root: Path = Path("/"), affinity: int | None = None) -> int:
    """Whole threads available, at least 1.

    The minimum of the affinity and of every CPU quota between the process's own control group and the
    top of the hierarchy, v2 (``cpu.max``) or v1 (``cpu.cfs_quota_us``).  A quota of 1.5 CPUs gives 1
    thread: a second one would be throttled half of the time, and the inference waits for its slowest thread.

    Args:
        root: where ``proc`` and ``sys`` are found; another folder in tests.
        affinity: CPUs that the scheduler allows; asked of the system if not given.
    """
    allowed = affinity if affinity is not None else _affinity()
    quota = cpu_quota(root)
    if quota is None:
        return max(1, allowed)
    return max(1, min(allowed, int(quota + 1e-6)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota that binds this process, in CPUs; None where there is none."""
    found = (quota for folder in _group_folders(root) for quota in (_quota_v2(folder), _quota_v1(folder)))
    return min((quota for quota in found if quota is not None), default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows have no affinity call


def _group_folders(root: Path) -> list[Path]:
    """Folders of the process's CPU control group and of all its parents, v2 and v1, mount points included."""
    folders: list[Path] = []
    mounts = root / "sys/fs/cgroup"
    for hierarchy, controllers, path in _memberships(root):
        if hierarchy == "0" and not controllers:
            tops = [mounts, mounts / "unified"]
        elif "cpu" in controllers:
            tops = [mounts / ",".join(controllers), mounts / "cpu", mounts / "cpu,cpuacct"]
        else:
            continue
        for top in tops:
            folders.extend(top / part for part in _with_parents(path))
    # Inside a container the membership may name a path of the host: the mount point is then our own group.
    return folders or [mounts, mounts / "cpu", mounts / "cpu,cpuacct"]


def _memberships(root: Path) -> list[tuple[str, list[str], str]]:
    """Lines ``hierarchy:controllers:path`` of ``/proc/self/cgroup``; none if it cannot be read."""
    memberships = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            memberships.append((parts[0], [name for name in parts[1].split(",") if name], parts[2]))
    return memberships


def _with_parents(path: str) -> list[str]:
    """The group and its parents as relative paths, the root of the hierarchy (``.``) last."""
    steps = [step for step in PurePosixPath(path).parts if step not in ("/", "..")]
    return ["/".join(steps[:count]) or "." for count in range(len(steps), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    fields = (_read(folder / "cpu.max") or "").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return _ratio(fields[0], fields[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota is None or period is None:
        return None
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """Quota / period in CPUs; None for "no limit" (-1) and for what is no number."""
    try:
        quota_us, period_us = int(quota), int(period)
    except ValueError:
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _read(path: Path | str) -> str | None:
    try:
        with open(path) as file:  # noqa: PTH123 - a string is read as it is, see ../proc_files.py
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None
