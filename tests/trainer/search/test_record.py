from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.search import toy
from trainer.search import Evaluation, GeneSpace
from trainer.search.record import RecordError, RecordWriter, read_record

SETTINGS = {"levels": 6, "smallest": [3, 2, 1], "seed": 0}
FIRST, SECOND = toy.evaluate((6, 6, 6)), toy.evaluate((6, 3, 1))


def write(path: Path) -> bytes:
    with RecordWriter(path, SETTINGS) as writer:
        writer.append(FIRST)
        writer.append(SECOND)
    return path.read_bytes()


def test_what_is_written_is_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "search" / "e.jsonl"
    write(path)
    record = read_record(path)
    assert (record.settings, record.evaluations, record.space) == (SETTINGS, (FIRST, SECOND), toy.SPACE)


def test_the_space_of_a_record_has_its_exempt_tokens_in_steps(tmp_path: Path) -> None:
    settings = {"levels": 6, "smallest": [3, 2, 2], "exempt_tokens": 16}
    with RecordWriter(tmp_path / "e.jsonl", settings) as writer:
        writer.append(replace(SECOND, genes=(6, 3, 2)))
    assert read_record(tmp_path / "e.jsonl").space == GeneSpace(6, (3, 2, 2), exempt=2)


def test_a_record_of_a_search_that_skims_says_what_the_first_layer_sees(tmp_path: Path) -> None:
    settings = {"levels": 6, "smallest": [3, 2, 2], "input_drop": 0.5}
    with RecordWriter(tmp_path / "e.jsonl", settings) as writer:
        writer.append(Evaluation((3, 3, 2), 1.0, 50.0))
    record = read_record(tmp_path / "e.jsonl")
    assert record.space == GeneSpace(6, (3, 2, 2), skims=True)
    written = json.loads((tmp_path / "e.jsonl").read_text().splitlines()[1])
    assert (written["input_ratio"], written["ratios"]) == (0.5, [1.0, 0.666667])


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_off_by_a_crash_is_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "e.jsonl"
    whole = write(path)
    path.write_bytes(whole[:-cut])
    assert read_record(path).evaluations == (FIRST,)
    with RecordWriter(path, SETTINGS) as writer:
        assert writer.evaluations == (FIRST,)
        writer.append(SECOND)
    assert path.read_bytes() == whole


def test_a_crash_before_the_first_line_ended_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"settings": {"lev')
    write(path)
    assert read_record(path).evaluations == (FIRST, SECOND)


def test_another_searchs_file_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    whole = write(path)
    with pytest.raises(RecordError, match="seed: 0 there, 1 here"):
        RecordWriter(path, {**SETTINGS, "seed": 1})
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"[]\n", b"{\n", b'{"settings": {"levels": 6}}\n{"genes": [6]}\n', b"\xff\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"e\.jsonl is no file of evaluations"):
        read_record(path)


def test_genes_of_another_space_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(write(path).replace(b"[6, 3, 1]", b"[3, 6, 1]"))
    with pytest.raises(RecordError, match="do not rise"):
        read_record(path)
