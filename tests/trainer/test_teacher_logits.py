from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.helpers import random_features
from trainer import teacher_logits
from trainer.loop import NotFiniteError
from trainer.network import PADDING_LOGIT, Batch
from trainer.teacher_logits import TeacherLogits, write_logits

FEATURES = random_features(23)


class Counting:
    """Logits that say which token stands where; counts the batches that it sees."""

    def __init__(self, shift: float = 0.0) -> None:
        self.batches = 0
        self.shift = shift

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self.batches += 1
        start = batch.token_ids.float() / 8 + self.shift
        return start.masked_fill(~batch.real, PADDING_LOGIT), (-start).masked_fill(~batch.real, PADDING_LOGIT)


def write(path: Path, run: Counting, stop_after: int | None = None, teacher: str = "t") -> int:
    return write_logits(run, FEATURES, path, teacher=teacher, batch_size=4, stop_after=stop_after)


def test_every_token_has_its_logits_where_the_features_have_the_token(tmp_path: Path) -> None:
    assert write(tmp_path / "logits.npy", Counting()) == 0
    values = np.load(tmp_path / "logits.npy")
    assert values.dtype == np.float16
    np.testing.assert_array_equal(values[:, 0], FEATURES.token_ids / 8)
    np.testing.assert_array_equal(values[:, 1], -FEATURES.token_ids / 8)


def test_windows_come_back_padded_with_zeros(tmp_path: Path) -> None:
    write(tmp_path / "logits.npy", Counting())
    logits = TeacherLogits.open(tmp_path / "logits.npy", FEATURES)
    indices = np.asarray([7, 0])
    padded = logits.padded(indices, 32)
    assert padded.shape == (2, 32, 2)
    for row, index in zip(padded, indices, strict=True):
        length = FEATURES.lengths[index]
        ids = FEATURES.token_ids[FEATURES.offsets[index] :][:length]
        np.testing.assert_array_equal(row[:length, 0], ids / 8)
        assert not row[length:].any()


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write(tmp_path / "whole.npy", Counting())
    first, second = Counting(), Counting()
    assert write(tmp_path / "logits.npy", first, stop_after=2) == 4
    assert not (tmp_path / "logits.npy").exists()
    assert write(tmp_path / "logits.npy", second) == 0
    assert (first.batches, second.batches) == (2, 4)
    assert (tmp_path / "logits.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert write(tmp_path / "logits.npy", Counting()) == 0
    assert not (tmp_path / "logits.npy.part").exists()


def test_a_killed_run_repeats_what_was_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_logits, "SAVE_EVERY", 2)

    class Dying(Counting):
        def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
            if self.batches == 3:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "logits.npy", Dying())
    again = Counting()
    write(tmp_path / "logits.npy", again)
    assert again.batches == 4  # of 6; two were noted
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy")[:, 0], FEATURES.token_ids / 8)


def test_a_finished_file_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path / "logits.npy", Counting())
    again = Counting()
    write(tmp_path / "logits.npy", again)
    assert again.batches == 0


def test_another_teacher_starts_over(tmp_path: Path) -> None:
    write(tmp_path / "logits.npy", Counting())
    assert write(tmp_path / "logits.npy", Counting(1.0), stop_after=2, teacher="other") == 4
    with pytest.raises(ValueError, match="is not done"):
        TeacherLogits.open(tmp_path / "logits.npy", FEATURES)
    write(tmp_path / "logits.npy", Counting(1.0), teacher="other")
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy")[:, 0], FEATURES.token_ids / 8 + 1.0)
    assert json.loads((tmp_path / "logits.json").read_text(encoding="utf-8"))["teacher"] == "other"


def test_a_kill_before_the_first_note_of_another_teacher_leaves_no_false_file(tmp_path: Path) -> None:
    class Dying(Counting):
        def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
            raise KeyboardInterrupt

    write(tmp_path / "logits.npy", Counting())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "logits.npy", Dying(), teacher="other")
    write(tmp_path / "logits.npy", Counting())
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy")[:, 0], FEATURES.token_ids / 8)


def test_logits_of_other_windows_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "logits.npy", Counting())
    with pytest.raises(ValueError, match=r"not float16 \(\d+, 2\) for these windows"):
        TeacherLogits.open(tmp_path / "logits.npy", random_features(22))
    shuffled = replace(FEATURES, token_ids=FEATURES.token_ids[::-1].copy())
    with pytest.raises(ValueError, match="for other windows"):
        TeacherLogits.open(tmp_path / "logits.npy", shuffled)
    with pytest.raises(FileNotFoundError):
        TeacherLogits.open(tmp_path / "none.npy", FEATURES)


@pytest.mark.parametrize("bad", [1e6, float("nan")])
def test_logits_beyond_float16_are_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(NotFiniteError, match="beyond float16"):
        write(tmp_path / "logits.npy", Counting(bad))
    assert not (tmp_path / "logits.npy").exists()


def test_the_teacher_runs_without_gradients(tmp_path: Path) -> None:
    def run(batch: Batch) -> tuple[Tensor, Tensor]:
        assert torch.is_inference_mode_enabled()
        return torch.zeros(batch.token_ids.shape), torch.zeros(batch.token_ids.shape)

    assert write_logits(run, FEATURES, tmp_path / "logits.npy", teacher="t") == 0
