from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.helpers import random_features
from trainer.batches import collate, epoch_order

LENGTHS = np.random.default_rng(0).integers(20, 385, 3001).astype(np.int64)


@pytest.mark.parametrize(("count", "size"), [(1, 4), (8, 4), (3001, 32), (1600, 32), (1601, 32)])
def test_every_window_comes_exactly_once_an_epoch(count: int, size: int) -> None:
    batches = epoch_order(LENGTHS[:count], size, seed=3, epoch=2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert len(batches) == -(-count // size)  # what the number of steps is reckoned from
    assert max(map(len, batches)) <= size


def flat(order: list[NDArray[np.int64]]) -> list[list[int]]:
    return [batch.tolist() for batch in order]


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    first = flat(epoch_order(LENGTHS, 32, seed=1, epoch=4))
    np.random.default_rng().random()
    assert flat(epoch_order(LENGTHS.copy(), 32, seed=1, epoch=4)) == first
    assert flat(epoch_order(LENGTHS, 32, seed=1, epoch=5)) != first
    assert flat(epoch_order(LENGTHS, 32, seed=2, epoch=4)) != first


def test_windows_of_a_batch_are_of_like_length_so_that_little_is_padding() -> None:
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in epoch_order(LENGTHS, 32, seed=0, epoch=0))
    assert padded < 1.06 * LENGTHS.sum()


def test_batches_do_not_come_sorted_by_length() -> None:
    means = [LENGTHS[batch].mean() for batch in epoch_order(LENGTHS, 32, seed=0, epoch=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_a_batch_is_padded_to_a_multiple_of_eight_and_keeps_every_token_and_label() -> None:
    features = random_features(12)
    chosen = np.array([7, 2, 5])
    batch = collate(features, chosen, pad_id=1)
    width = -(-int(features.lengths[chosen].max()) // 8) * 8
    assert batch.inputs.token_ids.shape == batch.starts.shape == batch.ends.shape == (3, width)
    assert batch.inputs.lengths.tolist() == features.lengths[chosen].tolist()
    assert batch.inputs.segment_starts.tolist() == [2, 2, 2]
    for row, index in enumerate(chosen):
        length = features.lengths[index]
        ids = features.token_ids[features.offsets[index] : features.offsets[index + 1]]
        assert batch.inputs.token_ids[row, :length].tolist() == ids.tolist()
        assert (batch.inputs.token_ids[row, length:] == 1).all()
        assert batch.starts[row].nonzero().flatten().tolist() == [features.label_starts[index]]
    assert batch.inputs.real.sum().item() == features.lengths[chosen].sum()
