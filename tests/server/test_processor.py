"""What the processor's flags mean for int8 products."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.processor import multiplies_int8_exactly, processor_name


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_vnni_and_amx_sum_in_32_bits(tmp_path: Path, flag: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu sse2 avx2 {flag} fsrm\n", encoding="utf-8")
    assert multiplies_int8_exactly(cpuinfo)


@pytest.mark.parametrize("text", ["flags\t\t: fpu sse2 avx2 avx512f\n", "Features\t: fp asimd asimddp\n", ""])
def test_other_processors_are_not_trusted_with_int8_products(tmp_path: Path, text: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text, encoding="utf-8")
    assert not multiplies_int8_exactly(cpuinfo)


def test_a_machine_that_does_not_say_is_not_trusted_either(tmp_path: Path) -> None:
    assert not multiplies_int8_exactly(tmp_path / "missing")


def test_the_processor_is_called_what_it_calls_itself(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert processor_name(cpuinfo)
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu\n", encoding="utf-8")
    assert processor_name(cpuinfo) == "Some CPU @ 2.0GHz"
