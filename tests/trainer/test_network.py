from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model_store import SIGNIFICANCES, Artifact, LengthConfiguration, full_configuration
from server.engine.reference import ReferenceEngine
from tests.trainer.helpers import SMALL, kept_of, one_of, random_batch, random_network
from trainer.network import Batch, Layer, LengthAdaptiveMiniLM, Scorer, most_significant, significance
from trainer.quantize import float_tensors

DROPPING = LengthConfiguration("c01", (0.9, 0.5, 0.3))
LENGTHS = (9, 40, 17, 2, 33)
INFINITE = math.inf


def test_significance_counts_neither_padded_queries_nor_padded_keys() -> None:
    one_head = [[0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.1, 0.1, 0.8]]
    other = [[0.2, 0.8, 0.0], [0.5, 0.5, 0.0], [0.9, 0.1, 0.0]]
    found = significance(torch.tensor([[one_head, other]]), torch.tensor([[True, True, False]]))
    # token 0: 0.6 + 0.3 + 0.2 + 0.5; token 1: 0.4 + 0.7 + 0.8 + 0.5; row 2 and column 2 are padding
    torch.testing.assert_close(found, torch.tensor([[1.6, 2.4, -INFINITE]]))


def test_significance_may_be_what_the_question_alone_attends_to() -> None:
    one_head = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
    other = [[0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.9, 0.1, 0.0]]
    asking = torch.tensor([[False, True, False]])
    found = significance(torch.tensor([[one_head, other]]), torch.tensor([[True, True, True]]), asking)
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.8, 0.5]]))  # row 1 of both heads


def test_the_question_is_segment_0_without_its_special_tokens() -> None:
    batch = Batch(torch.zeros(2, 7, dtype=torch.int64), torch.tensor([4, 3]), torch.tensor([7, 5]))
    assert batch.question.int().tolist() == [[0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]]


def test_significance_of_a_sample_sums_to_heads_times_its_real_tokens() -> None:
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    scores = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    probabilities = scores.masked_fill(~real[:, None, None], -10000.0).softmax(-1)
    found = significance(probabilities, real).masked_fill(~real, 0.0).sum(1)
    torch.testing.assert_close(found, torch.tensor([12.0, 6.0]))


def bilinear_scorer() -> Scorer:
    scorer = Scorer(2, bilinear=True)
    with torch.no_grad():
        scorer.weight.copy_(torch.tensor([[1.0, -1.0]]))
        scorer.bias.fill_(0.5)
        scorer.question.zero_()[0] = torch.tensor([1.0, 0.0])
        scorer.token.zero_()[0] = torch.tensor([0.0, 2.0])
    return scorer


def test_a_bilinear_significance_is_of_the_token_and_the_mean_of_the_question() -> None:
    states = torch.tensor([[[9.0, 9.0], [3.0, 1.0], [1.0, 1.0], [5.0, 2.0]]])
    asking = torch.tensor([[False, True, True, False]])
    found = bilinear_scorer().score(states, asking)
    # the mean is (2, 1), of which the matrices make 2 * (0, 2); with the weights the vector is (1, 3)
    torch.testing.assert_close(found, torch.tensor([[36.5, 6.5, 4.5, 11.5]]))


def test_without_a_question_a_bilinear_significance_is_the_token_s_alone() -> None:
    states = torch.tensor([[[9.0, 9.0], [3.0, 1.0]]])
    found = bilinear_scorer().score(states, torch.zeros(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[0.5, 2.5]]))


def chosen_of(scores: Sequence[Sequence[float]], counts: Sequence[int]) -> list[list[int]]:
    places, kept = most_significant(torch.tensor(scores), torch.tensor(counts))
    return [row[mask].tolist() for row, mask in zip(places, kept, strict=True)]


def test_the_most_significant_tokens_are_kept_in_reading_order() -> None:
    scores = [[0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.5, -INFINITE]]
    assert chosen_of(scores, [3, 2]) == [[1, 2, 3], [0, 2]]


def test_ties_go_to_the_earlier_token() -> None:
    assert chosen_of([[0.5, 0.7, 0.5, 0.5, 0.7]], [3]) == [[0, 1, 4]]
    assert chosen_of([[0.0] * 40], [5]) == [[0, 1, 2, 3, 4]]


def test_padding_is_never_kept() -> None:
    assert chosen_of([[0.0, 0.0, -INFINITE, -INFINITE], [1.0, 2.0, 3.0, 4.0]], [2, 3]) == [[0, 1], [1, 2, 3]]


def test_places_of_a_sample_are_all_different_beyond_its_count_too() -> None:
    places, kept = most_significant(torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]]), torch.tensor([1, 4]))
    assert [sorted(row) for row in places.tolist()] == [[0, 1, 2, 3]] * 2
    assert kept.tolist() == [[True, False, False, False], [True] * 4]


def loop_logits(network: LengthAdaptiveMiniLM, sample: Batch, kept: Sequence[int]) -> Tensor:
    """Logits ``[n, 2]`` of one unpadded window, token by token; restored by hand."""
    states = list(network.embeddings(sample)[0])
    last_of = list(states)  # what each token was when it was last computed
    alive = list(range(len(states)))
    for module, count in zip(network.layers, kept, strict=True):
        layer = cast(Layer, module)
        width = SMALL.head_size
        query, key, value = (
            [layer.qkv(last_of[place])[part * SMALL.hidden :][: SMALL.hidden].view(-1, width) for place in alive]
            for part in range(3)
        )
        received = [0.0] * len(alive)
        mixed = []
        for asking in range(len(alive)):
            heads = []
            for head in range(SMALL.heads):
                scores = [query[asking][head] @ key[other][head] / math.sqrt(width) for other in range(len(alive))]
                shares = torch.stack(scores).softmax(0)
                received = [sum_ + float(share) for sum_, share in zip(received, shares, strict=True)]
                heads.append(torch.stack([s * v[head] for s, v in zip(shares, value, strict=True)]).sum(0))
            mixed.append(torch.cat(heads))
        attended = [
            layer.attention_norm(last_of[place] + layer.attention_output(one))
            for place, one in zip(alive, mixed, strict=True)
        ]
        ranked = sorted(range(len(alive)), key=lambda index: (-received[index], index))[:count]
        for index in ranked:
            inner = layer.output(functional.gelu(layer.intermediate(attended[index])))
            last_of[alive[index]] = layer.output_norm(attended[index] + inner)
        alive = [alive[index] for index in sorted(ranked)]
    return torch.stack([network.head(state) for state in last_of])


@torch.inference_mode()
def test_dropping_equals_a_loop_over_tokens_in_which_a_dropped_token_keeps_its_last_output() -> None:
    network = random_network()
    batch = random_batch((12, 5, 9))
    kept = torch.tensor([[12, 5, 7], [6, 5, 7], [3, 2, 2]])
    start, end = network(batch, kept)
    for row in range(3):
        expected = loop_logits(network, one_of(batch, row), kept[:, row].tolist())
        length = int(batch.lengths[row])
        torch.testing.assert_close(torch.stack((start, end), -1)[row, :length], expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_token_dropped_in_a_layer_answers_with_the_layer_before() -> None:
    network = random_network()
    batch = random_batch((10,))
    hidden = network.embeddings(batch)
    logits_before_any_layer = network.head(hidden)[0]
    start, _ = network(batch, torch.tensor([[3], [3], [3]]))
    unchanged = torch.isclose(start[0], logits_before_any_layer[:, 0], atol=1e-6)
    assert unchanged.sum() == 7


@pytest.mark.parametrize("configuration", [None, full_configuration(3), DROPPING], ids=["none", "full", "dropping"])
@torch.inference_mode()
def test_logits_of_a_padded_batch_are_those_of_each_sample_alone(configuration: LengthConfiguration | None) -> None:
    network = random_network()
    batch = random_batch(LENGTHS, width=48)
    kept = None if configuration is None else kept_of(configuration, batch)
    start, end = network(batch, kept)
    for row, length in enumerate(LENGTHS):
        alone = one_of(batch, row)
        expected = network(alone, None if kept is None else kept[:, row : row + 1])
        torch.testing.assert_close(start[row, :length], expected[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(end[row, :length], expected[1][0], rtol=1e-4, atol=1e-5)
        assert (start[row, length:] == -10000.0).all()


@torch.inference_mode()
def test_what_the_padding_holds_does_not_matter() -> None:
    network = random_network()
    batch = random_batch(LENGTHS)
    other = Batch(torch.where(batch.real, batch.token_ids, 33), batch.segment_starts, batch.lengths)
    kept = kept_of(DROPPING, batch)
    for ours, theirs in zip(network(batch, kept), network(other, kept), strict=True):
        assert torch.equal(ours, theirs)


@torch.inference_mode()
def test_keeping_every_token_is_no_dropping() -> None:
    network = random_network()
    batch = random_batch(LENGTHS)
    everything = batch.lengths[None].expand(SMALL.layers, -1)
    for ours, theirs in zip(network(batch, everything), network(batch), strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.inference_mode()
def test_dropping_changes_something() -> None:
    network = random_network()
    batch = random_batch(LENGTHS)
    assert not torch.allclose(network(batch, kept_of(DROPPING, batch))[0], network(batch)[0])


def test_gradients_reach_every_parameter_under_dropping() -> None:
    network = random_network().train()
    batch = random_batch(LENGTHS)
    start, end = network(batch, kept_of(DROPPING, batch))
    torch.autograd.backward((start * batch.real).sum() + (end * batch.real).sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def float_artifact(network: LengthAdaptiveMiniLM) -> Artifact:
    """As much of an artifact as the reference reads."""
    manifest = SimpleNamespace(architecture=network.architecture, quantization=SimpleNamespace(scheme="none"))
    made: Any = SimpleNamespace(manifest=manifest, load_tensors=lambda: float_tensors(network))
    return cast(Artifact, made)


@pytest.mark.parametrize("configuration", [full_configuration(3), DROPPING], ids=["full", "dropping"])
@pytest.mark.parametrize("significance", SIGNIFICANCES)
@torch.inference_mode()
def test_the_network_that_is_trained_and_the_reference_engine_agree(
    configuration: LengthConfiguration, significance: str
) -> None:
    network = random_network(replace(SMALL, significance=significance), seed=4)
    batch = random_batch((9, 40, 17, 2, 33, 64, 24), seed=5)
    windows = [
        SimpleNamespace(token_ids=one.token_ids[0].numpy().astype(np.int32), segment_start=int(one.segment_starts[0]))
        for one in (one_of(batch, row) for row in range(len(batch.lengths)))
    ]
    answers = ReferenceEngine(float_artifact(network), threads=1).run(windows, configuration).logits
    start, end = network(batch, kept_of(configuration, batch))
    for row, logits in enumerate(answers):
        length = int(batch.lengths[row])
        np.testing.assert_allclose(logits.start, start[row, :length].numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(logits.end, end[row, :length].numpy(), rtol=1e-4, atol=1e-4)
