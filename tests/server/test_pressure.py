"""CPU pressure from hand-made trees of counters: what others take is told apart from what we use ourselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pressure import PressureReader, PressureSample, pressure

SECOND = 1_000_000_000
CGROUP = "sys/fs/cgroup"


class Host:
    """A host whose counters a test sets; its reader sees CPUs 0 and 1 unless told otherwise."""

    def __init__(self, root: Path, files: dict[str, str] | None = None, cpus: set[int] | None = None) -> None:
        self.root = root
        self.now_ns = 0
        self.own_ns = 0
        self.write(files or {})
        self.reader = PressureReader(
            root, clock_ns=lambda: self.now_ns, own_cpu_ns=lambda: self.own_ns, affinity=lambda: cpus or {0, 1}
        )

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")

    def after(self, files: dict[str, str], *, own_ns: int = 0, seconds: float = 1.0) -> PressureSample:
        """The sample after these files changed."""
        self.now_ns += int(seconds * SECOND)
        self.own_ns += own_ns
        self.write(files)
        return self.reader.sample()


def stat(*cpus: str, first: int = 0) -> dict[str, str]:
    """``/proc/stat`` with a line for each CPU: user nice system idle [iowait irq softirq steal guest]."""
    lines = [f"cpu{number} {counts}" for number, counts in enumerate(cpus, first)]
    return {"proc/stat": "\n".join(["cpu 1 2 3 4", *lines, "intr 77 0 1", "ctxt 5", "procs_running 3"])}


def sampled(tmp_path: Path, before: dict[str, str], after: dict[str, str], *, own_ns: int = 0) -> PressureSample:
    """The sample of one second between two states of the files."""
    host = Host(tmp_path, before)
    host.reader.sample()
    return host.after(after, own_ns=own_ns)


def test_the_first_sample_tells_nothing(tmp_path: Path) -> None:
    assert Host(tmp_path, stat("1 0 0 1")).reader.sample() == PressureSample()


def test_a_clock_that_stands_still_tells_nothing_and_loses_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, stat("0 0 0 0", "0 0 0 0"))
    host.reader.sample()
    assert host.after(stat("40 0 0 60", "0 0 0 100"), seconds=0) == PressureSample()
    assert host.after({}).others_cpus == pytest.approx(0.4)


def test_others_are_what_is_busy_less_what_we_used(tmp_path: Path) -> None:
    sample = sampled(
        tmp_path, stat("100 0 50 900", "0 0 0 0"), stat("150 10 60 920 10", "50 0 0 40 10"), own_ns=SECOND // 2
    )
    assert (sample.interval_ns, sample.cpus) == (SECOND, 2)
    assert sample.own_cpus == pytest.approx(0.5)
    assert sample.others_cpus == pytest.approx(0.7 + 0.5 - 0.5)
    assert sample.steal_cpus == 0


def test_interrupts_are_others_and_guests_are_not_counted_twice(tmp_path: Path) -> None:
    sample = sampled(tmp_path, stat("0 0 0 0"), stat("20 0 10 50 0 5 15 0 20 0"))
    assert sample.others_cpus == pytest.approx(0.5)


def test_steal_is_told_apart(tmp_path: Path) -> None:
    sample = sampled(tmp_path, stat("0 0 0 0 0 0 0 0"), stat("60 0 0 10 0 0 0 30"))
    assert (sample.others_cpus, sample.steal_cpus) == pytest.approx((0.6, 0.3))


def test_our_own_time_never_makes_others_negative(tmp_path: Path) -> None:
    sample = sampled(tmp_path, stat("0 0 0 0"), stat("90 0 0 10"), own_ns=SECOND)
    assert sample.others_cpus == 0


def test_cpus_outside_the_affinity_do_not_count(tmp_path: Path) -> None:
    host = Host(tmp_path, stat("0 0 0 0", "0 0 0 0", "0 0 0 0"), cpus={1})
    host.reader.sample()
    sample = host.after(stat("100 0 0 0", "25 0 0 75", "100 0 0 0"))
    assert (sample.cpus, sample.others_cpus) == pytest.approx((1, 0.25))


def test_an_unplugged_cpu_does_not_count(tmp_path: Path) -> None:
    sample = sampled(tmp_path, stat("0 0 0 0", "500 0 0 500"), stat("30 0 0 70"))
    assert (sample.cpus, sample.others_cpus) == pytest.approx((1, 0.3))


def test_a_cpu_that_comes_back_counts_from_the_next_sample_on(tmp_path: Path) -> None:
    host = Host(tmp_path, stat("0 0 0 0", "500 0 0 500"))
    host.reader.sample()
    assert host.after(stat("30 0 0 70", "5 0 0 5")).cpus == 1
    assert host.after(stat("60 0 0 140", "55 0 0 55")).others_cpus == pytest.approx(0.3 + 0.5)


def test_counters_of_zeros_as_in_gvisor_tell_nothing(tmp_path: Path) -> None:
    sample = sampled(tmp_path, stat("0 0 0 0 0 0 0 0 0 0"), stat("0 0 0 0 0 0 0 0 0 0"), own_ns=SECOND)
    assert (sample.cpus, sample.others_cpus, sample.steal_cpus) == (None, None, None)
    assert sample.own_cpus == 1


@pytest.mark.parametrize(
    "content",
    ["", "cpu", "cpu0", "cpu0 1 2 3", "cpu0 a b c d", "cpu0 1 2 3 -4", "cpux 1 2 3 4", "\x00", "cpu0 ² 2 3 4"],
)
def test_a_malformed_stat_tells_nothing(tmp_path: Path, content: str) -> None:
    sample = sampled(tmp_path, {"proc/stat": content}, {"proc/stat": content})
    assert (sample.cpus, sample.others_cpus) == (None, None)


def test_an_empty_host_gives_samples_without_figures(tmp_path: Path) -> None:
    sample = sampled(tmp_path, {}, {}, own_ns=SECOND // 4)
    assert sample == PressureSample(interval_ns=SECOND, own_cpus=0.25)
    assert pressure(sample, 2) == 0


def test_files_that_are_no_text_or_folders_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc/self/task/7/schedstat").mkdir(parents=True)
    (tmp_path / "proc/pressure").mkdir()
    (tmp_path / "proc/pressure/cpu").write_bytes(b"\xff\xfe")
    (tmp_path / "proc/stat").mkdir()
    assert sampled(tmp_path, {}, {}) == PressureSample(interval_ns=SECOND, own_cpus=0)


def waits(**threads: str) -> dict[str, str]:
    return {f"proc/self/task/{name[1:]}/schedstat": content for name, content in threads.items()}


def test_waiting_sums_over_threads(tmp_path: Path) -> None:
    before = waits(t1="900 100000000 3", t2="5 7 1")
    after = waits(t1="950 400000000 4", t2="5 500000007 2", t3="1 200000000 1")
    assert sampled(tmp_path, before, after).waiting_cpus == pytest.approx(0.3 + 0.5 + 0.2)


def test_a_thread_under_a_used_id_counts_from_its_start(tmp_path: Path) -> None:
    assert sampled(tmp_path, waits(t1="1 900 1"), waits(t1="1 500 1")).waiting_cpus == pytest.approx(500 / SECOND)


def test_malformed_waits_are_left_out(tmp_path: Path) -> None:
    sample = sampled(tmp_path, waits(t1="1 2 3", t2="7"), waits(t1="1 1002 3", t2="x y z"))
    assert sample.waiting_cpus == pytest.approx(1000 / SECOND)


V2 = {"proc/self/cgroup": "0::/pod/box"}
V1 = {"proc/self/cgroup": "4:cpu,cpuacct:/box"}


def test_throttling_of_version_2_takes_the_tightest_group(tmp_path: Path) -> None:
    own, parent = f"{CGROUP}/pod/box/cpu.stat", f"{CGROUP}/pod/cpu.stat"
    sample = sampled(
        tmp_path,
        V2
        | {
            own: "usage_usec 1\nnr_periods 100\nnr_throttled 10\nthrottled_usec 5000",
            parent: "usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
            f"{CGROUP}/cpu.stat": "usage_usec 99",
        },
        {
            own: "usage_usec 1\nnr_periods 110\nnr_throttled 12\nthrottled_usec 105000",
            parent: "usage_usec 1\nnr_periods 10\nnr_throttled 5\nthrottled_usec 400000",
        },
    )
    assert (sample.throttled_cpus, sample.throttled_periods) == pytest.approx((0.4, 0.5))


def test_throttling_of_version_1_is_in_nanoseconds(tmp_path: Path) -> None:
    path = f"{CGROUP}/cpu,cpuacct/box/cpu.stat"
    sample = sampled(
        tmp_path,
        V1 | {path: "nr_periods 10\nnr_throttled 1\nthrottled_time 1000"},
        {path: "nr_periods 20\nnr_throttled 4\nthrottled_time 250001000"},
    )
    assert (sample.throttled_cpus, sample.throttled_periods) == pytest.approx((0.25, 0.3))


@pytest.mark.parametrize(
    "after", ["nr_periods 1\nnr_throttled 0\nthrottled_usec 3", "", "throttled_usec many", "throttled_usec"]
)
def test_throttling_that_began_anew_or_vanished_tells_nothing(tmp_path: Path, after: str) -> None:
    path = f"{CGROUP}/pod/box/cpu.stat"
    before = V2 | {path: "nr_periods 10\nnr_throttled 5\nthrottled_usec 500"}
    sample = sampled(tmp_path, before, {path: after})
    assert (sample.throttled_cpus, sample.throttled_periods) == (None, None)


def stalls(total_us: int) -> str:
    return f"some avg10=1.00 avg60=0.50 avg300=0.10 total={total_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9"


def test_stalls_of_the_group_go_before_those_of_the_host(tmp_path: Path) -> None:
    own, host = f"{CGROUP}/pod/box/cpu.pressure", "proc/pressure/cpu"
    sample = sampled(tmp_path, V2 | {own: stalls(5), host: stalls(0)}, {own: stalls(200_005), host: stalls(900_000)})
    assert sample.waited == pytest.approx(0.2)


def test_stalls_of_the_host_stand_in(tmp_path: Path) -> None:
    path = "proc/pressure/cpu"
    assert sampled(tmp_path, {path: stalls(0)}, {path: stalls(900_000)}).waited == pytest.approx(0.9)


@pytest.mark.parametrize("after", [stalls(3), "some", "some total=", "full total=7", ""])
def test_stalls_that_began_anew_or_make_no_sense_tell_nothing(tmp_path: Path, after: str) -> None:
    path = "proc/pressure/cpu"
    assert sampled(tmp_path, {path: stalls(10)}, {path: after}).waited is None


def crowd(others: float, own: float = 0.0, waiting: float | None = 0.0, cpus: int = 2) -> PressureSample:
    return PressureSample(SECOND, cpus=cpus, own_cpus=own, others_cpus=others, steal_cpus=0.0, waiting_cpus=waiting)


def test_our_own_work_is_no_pressure() -> None:
    assert pressure(crowd(others=0.0, own=2.0, waiting=0.6), threads=2) == 0


def test_others_on_spare_cpus_are_no_pressure() -> None:
    assert pressure(crowd(others=1.0), threads=1) == 0
    assert pressure(crowd(others=5.0, cpus=8), threads=3) == 0


@pytest.mark.parametrize(
    ("others", "own", "waiting"),
    [(2.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.3)],
    ids=["we do not work", "we work", "our threads wait for each other too"],
)
def test_two_busy_others_on_two_cpus_take_half(others: float, own: float, waiting: float) -> None:
    assert pressure(crowd(others, own, waiting), threads=2) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(("others", "own", "waiting"), [(1.0, 0.0, 0.0), (2 / 3, 4 / 3, 2 / 3)])
def test_one_busy_other_on_two_cpus_takes_a_third(others: float, own: float, waiting: float) -> None:
    assert pressure(crowd(others, own, waiting), threads=2) == pytest.approx(1 / 3)


def test_others_of_lower_priority_take_little_once_we_work() -> None:
    assert pressure(crowd(others=0.04, own=1.96, waiting=0.04), threads=2) < 0.03


def test_many_busy_others_are_seen_once_we_work() -> None:
    assert pressure(crowd(others=1.6, own=0.4, waiting=1.6), threads=2) == pytest.approx(0.8)


def test_where_waiting_is_not_told_the_others_share_stands_for_it() -> None:
    assert 0.3 < pressure(crowd(others=1.0, own=1.0, waiting=None), threads=2) <= 0.5


def test_threads_beyond_the_cpus_are_no_pressure() -> None:
    assert pressure(crowd(others=0.0, own=2.0, waiting=2.0), threads=8) == 0


def test_throttling_is_pressure() -> None:
    sample = PressureSample(SECOND, cpus=4, own_cpus=1.2, others_cpus=0.0, throttled_cpus=0.8)
    assert pressure(sample, threads=2) == pytest.approx(0.4)


def test_steal_is_pressure_but_a_little_steal_of_an_idle_host_is_little() -> None:
    busy = PressureSample(SECOND, cpus=1, own_cpus=0.7, others_cpus=0.0, steal_cpus=0.3, waiting_cpus=0.0)
    idle = PressureSample(SECOND, cpus=2, own_cpus=0.01, others_cpus=0.0, steal_cpus=0.01, waiting_cpus=0.0)
    assert pressure(busy, threads=1) == pytest.approx(0.3)
    assert pressure(idle, threads=2) < 0.01


amounts = st.floats(0, 8, allow_nan=False)


@given(
    cpus=st.integers(1, 8),
    threads=st.integers(1, 16),
    own=amounts,
    others=amounts,
    steal=amounts,
    waiting=st.none() | st.floats(0, 64),
    throttled=st.none() | st.floats(0, 64),
)
def test_pressure_is_a_share(
    cpus: int, threads: int, own: float, others: float, steal: float, waiting: float | None, throttled: float | None
) -> None:
    sample = PressureSample(
        SECOND,
        cpus=cpus,
        own_cpus=own,
        others_cpus=min(others, cpus),
        steal_cpus=min(steal, cpus),
        waiting_cpus=waiting,
        throttled_cpus=throttled,
    )
    assert 0 <= pressure(sample, threads) <= 1


def test_a_sample_interns_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pathlib does with each part of a path; the table of interned strings grows by those that have gone."""
    reader = PressureReader()
    reader.sample()
    interned: list[str] = []

    def intern(text: str) -> str:
        interned.append(text)
        return text

    monkeypatch.setattr("sys.intern", intern)
    reader.sample()
    monkeypatch.undo()
    assert interned == []


def test_this_host_can_be_read() -> None:
    reader = PressureReader()
    reader.sample()
    sample = reader.sample()
    assert sample.own_cpus is None or sample.own_cpus >= 0
    assert 0 <= pressure(sample, 2) <= 1
