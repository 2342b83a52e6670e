"""The number of threads from CPU quotas, in trees like those of real hosts and containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.threads import available_threads, cpu_quota

CGROUP = "sys/fs/cgroup"


def tree(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        pytest.param({}, 16, id="nothing mounted"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "200000 100000"}, 2, id="v2, own namespace"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "max 100000"}, 16, id="v2, unlimited"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "50000 100000"}, 1, id="v2, half a CPU"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "350000 100000"}, 3, id="v2, a fraction"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "9900000 100000"}, 16, id="v2, over the host"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/kube/pod/box",
                f"{CGROUP}/kube/pod/box/cpu.max": "800000 100000",
                f"{CGROUP}/kube/pod/cpu.max": "400000 100000",
                f"{CGROUP}/kube/cpu.max": "max 100000",
            },
            4,
            id="v2, the parent is tighter",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../host/path", f"{CGROUP}/cpu.max": "300000 100000"}, 3, id="v2, foreign path"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab",
                f"{CGROUP}/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "200000",
                f"{CGROUP}/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
                f"{CGROUP}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                f"{CGROUP}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpuacct,cpu:/docker/ab",
                f"{CGROUP}/cpu/cpu.cfs_quota_us": "600000",
                f"{CGROUP}/cpu/cpu.cfs_period_us": "200000",
            },
            3,
            id="v1, path of the host seen from a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "1:name=systemd:/a\n3:cpu:/a\n0::/a",
                f"{CGROUP}/cpu/a/cpu.cfs_quota_us": "400000",
                f"{CGROUP}/cpu/a/cpu.cfs_period_us": "100000",
                f"{CGROUP}/unified/a/cpu.max": "200000 100000",
            },
            2,
            id="hybrid",
        ),
        pytest.param(
            {
                f"{CGROUP}/cpu/cpu.cfs_quota_us": "200000",
                f"{CGROUP}/cpu/cpu.cfs_period_us": "100000",
            },
            2,
            id="no membership file",
        ),
        pytest.param({"proc/self/cgroup": "nonsense\n0::", f"{CGROUP}/cpu.max": "what"}, 16, id="nonsense"),
        pytest.param({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "100000 0"}, 16, id="period of zero"),
    ],
)
def test_threads_follow_the_tightest_quota(tmp_path: Path, files: dict[str, str], threads: int) -> None:
    assert available_threads(tree(tmp_path, files), affinity=16) == threads


def test_affinity_limits_too(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "800000 100000"}
    assert available_threads(tree(tmp_path, files), affinity=3) == 3


def test_a_quota_is_told_in_cpus(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "150000 100000"}
    assert cpu_quota(tree(tmp_path, files)) == 1.5


def test_this_machine_has_at_least_one_thread() -> None:
    assert available_threads() >= 1
