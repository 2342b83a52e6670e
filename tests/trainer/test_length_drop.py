from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model_store import Architecture
from model_store.length_config import MINIMUM_TOKENS
from tests.trainer.helpers import SMALL, random_batch, random_network
from trainer import network as network_module
from trainer.length_drop import (
    LengthDrop,
    SubModel,
    protected_tokens,
    random_path,
    scaled_counts,
    smallest_path,
    smallest_share,
)
from trainer.network import Layer

MINILM = Architecture(layers=6, hidden=384, heads=12, intermediate=1536, vocabulary=30522, positions=512)
DROP = LengthDrop(layers=3, probability=0.4)


def kept(sub_model: SubModel) -> list[list[int]]:
    assert sub_model.kept is not None
    return cast(list[list[int]], sub_model.kept.tolist())


def test_the_smallest_sub_model_keeps_as_little_as_each_layer_may() -> None:
    # ceil(0.6 * 100) = 60, ceil(0.6 * 60) = 36, ceil(21.6) = 22
    assert smallest_path(100, 3, 0.4) == [60, 36, 22]
    assert smallest_path(384, 6, 0.2) == [308, 247, 198, 159, 128, 103]


def test_no_path_falls_below_two_tokens_or_above_the_length() -> None:
    assert smallest_path(4, 4, 0.9) == [2, 2, 2, 2]
    assert smallest_path(1, 2, 0.5) == [1, 1]
    assert smallest_path(50, 2, 0.0) == [50, 50]


@given(st.integers(2, 400), st.floats(0.0, 0.99), st.integers(0, 1000))
def test_a_random_path_stays_within_what_each_layer_may_drop(length: int, probability: float, seed: int) -> None:
    path = random_path(length, 6, probability, np.random.default_rng(seed))
    before = length
    for count in path:
        lowest = min(before, max(MINIMUM_TOKENS, int(np.ceil((1 - probability) * before - 1e-9))))
        assert lowest <= count <= before
        before = count


def test_both_ends_of_the_interval_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {random_path(10, 1, 0.3, rng)[0] for _ in range(200)}
    assert drawn == {7, 8, 9, 10}


def test_shorter_windows_keep_the_ratios_of_the_longest() -> None:
    counts = scaled_counts([60, 36, 22], torch.tensor([100, 50, 33, 3]))
    # 33 tokens: ceil(19.8), ceil(11.88), ceil(7.26); 3 tokens: ceil(1.8), ceil(1.08), max(ceil(0.66), 2)
    assert counts.T.tolist() == [[60, 36, 22], [30, 18, 11], [20, 12, 8], [2, 2, 2]]


@given(st.lists(st.integers(2, 300), min_size=1, max_size=5), st.floats(0.0, 0.95), st.integers(0, 100))
def test_counts_never_rise_and_fit_every_window(lengths: list[int], probability: float, seed: int) -> None:
    path = random_path(max(lengths), 4, probability, np.random.default_rng(seed))
    counts = torch.cat((torch.tensor([lengths]), scaled_counts(path, torch.tensor(lengths))))
    assert bool((counts[1:] <= counts[:-1]).all())
    assert bool((counts >= MINIMUM_TOKENS).all())


@pytest.mark.parametrize(
    ("what", "places"),
    [("special", [[0, 1, 4], [0, 4, 19]]), ("question", [[0, 1, 4], [0, 1, 2, 3, 4, 19]])],
)
def test_protected_tokens(what: str, places: Sequence[Sequence[int]]) -> None:
    protected = protected_tokens(random_batch([5, 20]), what)  # segment 1 begins at 2 and at 5
    assert protected is not None
    assert [row.nonzero().flatten().tolist() for row in protected] == places
    assert protected_tokens(random_batch([5, 20]), "none") is None


def test_a_layer_keeps_at_least_the_protected_tokens() -> None:
    batch = random_batch([20, 5])
    drop = replace(DROP, probability=0.9, protect="question")
    assert kept(drop.sub_models(batch, 0)[1]) == [[6, 3]] * 3


def test_a_step_is_the_full_model_the_smallest_and_random_ones() -> None:
    batch = random_batch([40, 20])
    full, smallest, *random = DROP.sub_models(batch, 3)
    assert full == SubModel(None, None, (False,) * 3)
    assert kept(smallest) == [[24, 12], [15, 8], [9, 5]]
    assert len(random) == 2
    assert kept(random[0]) != kept(random[1])


def test_the_draws_are_a_function_of_seed_and_step() -> None:
    batch = random_batch([40, 20])

    def drawn(drop: LengthDrop, step: int) -> list[list[list[int]]]:
        return [kept(one) for one in drop.sub_models(batch, step)[2:]]

    assert drawn(DROP, 5) == drawn(DROP, 5)
    assert drawn(DROP, 5) != drawn(DROP, 6)
    assert drawn(DROP, 5) != drawn(replace(DROP, seed=2), 5)


def test_layers_are_left_out_with_their_probability_and_never_of_the_full_pass_unless_told() -> None:
    batch = random_batch([10])
    drop = replace(DROP, layer_drop=0.25)
    passes = [drop.sub_models(batch, step) for step in range(400)]
    assert not any(any(full.skipped) for full, *_ in passes)
    shares = [np.mean([one[place].skipped for one in passes]) for place in (1, 2, 3)]
    assert shares == pytest.approx([0.25] * 3, abs=0.04)
    told = replace(drop, layer_drop_full=True)
    assert any(any(told.sub_models(batch, step)[0].skipped) for step in range(20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 1.0}, "probability"),
        ({"layer_drop": -0.1}, "layer_drop"),
        ({"random_passes": -1}, "random_passes"),
        ({"protect": "verbs"}, "none, special, question"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DROP, **change)  # type: ignore[arg-type]


def test_at_four_tenths_the_smallest_sub_model_costs_at_most_three_tenths() -> None:
    for length in (128, 170, 384):
        assert smallest_share(MINILM, 0.4, length) <= 0.30
    assert 0.37 < smallest_share(MINILM, 0.3) < 0.40
    assert smallest_share(MINILM, 0.0) == 1.0


def computed_places(monkeypatch: pytest.MonkeyPatch, protected: Tensor | None, counts: Tensor) -> list[list[list[int]]]:
    """Places in the window of the tokens that each layer keeps of each sample."""
    kept_places: list[list[list[int]]] = []
    most_significant = network_module.most_significant

    def spy(scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        places, mask = most_significant(scores, wanted)
        rows = [row[one].tolist() for row, one in zip(places, mask, strict=True)]
        before = kept_places[-1] if kept_places else [list(range(scores.shape[1]))] * len(rows)
        kept_places.append([[old[place] for place in row] for old, row in zip(before, rows, strict=True)])
        return places, mask

    monkeypatch.setattr(network_module, "most_significant", spy)
    random_network()(random_batch([40, 12]), counts, protected=protected)
    return kept_places


def test_protected_tokens_are_kept_by_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    protected = protected_tokens(random_batch([40, 12]), "question")
    layers = computed_places(monkeypatch, protected, torch.tensor([[25, 9], [14, 6], [10, 4]]))
    # question and specials: the first 9 of 40 and the first 3 of 12 tokens, and the last [SEP]
    wanted = [{*range(9), 39}, {0, 1, 2, 11}]
    assert [[len(row) for row in rows] for rows in layers] == [[25, 9], [14, 6], [10, 4]]
    assert all(places <= set(row) for rows in layers for places, row in zip(wanted, rows, strict=True))


def test_without_protection_some_of_them_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    last = computed_places(monkeypatch, None, torch.tensor([[25, 9], [14, 6], [10, 4]]))[-1]
    assert not {*range(9), 39} <= set(last[0])


@pytest.mark.parametrize("dropping", [False, True])
def test_a_layer_left_out_changes_and_drops_nothing(dropping: bool) -> None:  # noqa: FBT001
    network, batch = random_network(), random_batch([20, 9])
    counts = torch.tensor([[12, 6], [12, 6], [5, 3]])
    shorter = random_network()
    del shorter.layers[1]
    with torch.no_grad():
        skipped = network(batch, counts if dropping else None, skipped=(False, True, False))
        without = shorter(batch, counts[[0, 2]] if dropping else None)
    assert isinstance(network.layers[1], Layer)
    for ours, theirs in zip(skipped, without, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_leaving_out_every_layer_leaves_the_embeddings() -> None:
    network, batch = random_network(), random_batch([20, 9])
    everything = (True,) * SMALL.layers
    with torch.no_grad():
        encoded = network.encode(batch, torch.full((3, 2), 4), skipped=everything)
        torch.testing.assert_close(encoded, network.embeddings(batch), rtol=0, atol=0)
