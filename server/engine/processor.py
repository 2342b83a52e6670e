"""What the processor can do that the runtimes do not say."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}
_CPUINFO = Path("/proc/cpuinfo")


def multiplies_int8_exactly(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether products of unsigned and signed bytes are summed in 32 bits (VNNI or AMX).

    Older x86 (``vpmaddubsw``) sums pairs in 16 bits and saturates, which gives *wrong* sums for full-range
    8-bit operands, silently.  False where it cannot be known (no ``/proc/cpuinfo``, other architectures).
    """
    return not _EXACT.isdisjoint(_first(cpuinfo, "flags").split())


def lacking(flags: Sequence[str], cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Those of `flags` that the processor does not name; all of them where it cannot be known."""
    found = _first(cpuinfo, "flags").split()
    return tuple(flag for flag in flags if flag not in found)


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """The name that the processor gives itself, which is also OpenVINO's; its architecture where there is none."""
    return _first(cpuinfo, "model name") or platform.machine() or "unknown"


def _first(cpuinfo: Path, key: str) -> str:
    """The value of the first line ``key : value``; empty where there is none."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    line = next((line for line in text.splitlines() if line.startswith(key)), "")
    return line.partition(":")[2].strip()
