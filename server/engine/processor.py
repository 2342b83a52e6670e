"""What the processor can do that the runtimes do not say."""

from __future__ import annotations

from pathlib import Path

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def multiplies_int8_exactly(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether products of unsigned and signed bytes are summed in 32 bits (VNNI or AMX).

    Older x86 (``vpmaddubsw``) sums pairs in 16 bits and saturates, which gives *wrong* sums for full-range
    8-bit operands, silently.  False where it cannot be known (no ``/proc/cpuinfo``, other architectures).
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _EXACT.isdisjoint(flags.partition(":")[2].split())
