from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from trainer.batches import LabelledBatch
from trainer.losses import keeping_loss, marginal_span_loss
from trainer.network import Batch


def test_probabilities_of_all_labelled_places_are_summed() -> None:
    # softmax of ln(1, 2, 5) is 1/8, 2/8, 5/8
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    starts = torch.tensor([[True, False, True]])  # 6/8
    ends = torch.tensor([[False, True, False]])  # 2/8
    expected = -(math.log(6 / 8) + math.log(2 / 8)) / 2
    assert marginal_span_loss(logits, logits, starts, ends).item() == pytest.approx(expected)


def test_the_loss_of_a_batch_is_the_mean_of_its_windows() -> None:
    logits = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).log()
    labels = torch.tensor([[True, False], [False, True]])
    expected = -(math.log(1 / 4) + math.log(1 / 2)) / 2
    assert marginal_span_loss(logits, logits, labels, labels).item() == pytest.approx(expected)


def test_every_place_labelled_costs_nothing() -> None:
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(3, 7, dtype=torch.bool)
    assert marginal_span_loss(logits, logits, everywhere, everywhere).item() == pytest.approx(0.0, abs=1e-6)


def test_one_label_gives_cross_entropy_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, 11, generator=generator, requires_grad=True)
    end = torch.randn(5, 11, generator=generator, requires_grad=True)
    places = torch.randint(0, 11, (2, 5), generator=generator)
    starts, ends = (functional.one_hot(row, 11).bool() for row in places)
    plain = (functional.cross_entropy(start, places[0]) + functional.cross_entropy(end, places[1])) / 2
    marginal = marginal_span_loss(start, end, starts, ends)
    torch.testing.assert_close(marginal, plain)
    for ours, theirs in zip(
        torch.autograd.grad(marginal, (start, end)), torch.autograd.grad(plain, (start, end)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_masked_places_neither_count_nor_make_the_loss_infinite() -> None:
    logits = torch.tensor([[1.0, 3.0]]).log()
    masked = torch.cat((logits, torch.full((1, 2), -10000.0)), 1)
    labels = torch.tensor([[True, False, False, False]])
    assert marginal_span_loss(masked, masked, labels, labels).item() == pytest.approx(math.log(4))


def labelled(starts: list[list[int]], ends: list[list[int]]) -> LabelledBatch:
    """[CLS] q [SEP] and five more, the last of them [SEP]; the second window has two places of padding."""
    inputs = Batch(torch.zeros(2, 8, dtype=torch.int64), torch.tensor([3, 3]), torch.tensor([8, 6]))
    return LabelledBatch(inputs, torch.tensor(starts).bool(), torch.tensor(ends).bool())


def test_the_tokens_of_all_answers_are_inside_and_those_of_no_answer_are_not() -> None:
    batch = labelled(
        [[0, 0, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    )
    assert batch.inside.int().tolist() == [[0, 0, 0, 1, 1, 0, 1, 0], [0] * 8]


def test_what_should_be_kept_is_the_answer_and_but_in_the_last_layer_the_question() -> None:
    batch = labelled([[0, 0, 0, 1, 0, 0, 0, 0], [0] * 8], [[0, 0, 0, 1, 0, 0, 0, 0], [0] * 8])
    sure = 50.0
    answer = torch.full((2, 8), -sure)
    answer[0, 3] = sure
    asked = answer.clone()
    asked[:, :3] = sure
    asked[0, 7] = asked[1, 5] = sure
    assert keeping_loss([asked, asked, answer], batch).item() == pytest.approx(0.0, abs=1e-6)
    # in the last layer, 8 tokens of 14 are wrong by 50 nats each; one layer of three
    assert keeping_loss([asked, asked, asked], batch).item() == pytest.approx(8 * sure / 14 / 3, rel=1e-5)
    # the answer lost counts ten times
    assert keeping_loss([-answer.abs()], batch).item() == pytest.approx(10 * sure / 14, rel=1e-5)
