from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.trainer.helpers import random_batch, random_network
from trainer.length_drop import LengthDrop, SubModel
from trainer.losses import marginal_span_loss
from trainer.network import PADDING_LOGIT
from trainer.precision import WorkingCopy
from trainer.sandwich import Logits, PassLosses, divergence, sandwich, taught_loss


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


P, Q = (0.5, 0.5), (0.8, 0.2)
FORWARD = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)  # KL(P || Q) = 0.2231
REVERSE = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)  # KL(Q || P) = 0.1927


def test_forward_is_the_divergence_of_the_student_from_its_target() -> None:
    assert divergence((logits_of(*P),), (logits_of(*Q),), "forward").item() == pytest.approx(FORWARD, abs=1e-6)


def test_reverse_is_the_divergence_of_the_target_from_the_student() -> None:
    assert divergence((logits_of(*P),), (logits_of(*Q),), "reverse").item() == pytest.approx(REVERSE, abs=1e-6)


def test_start_and_end_and_samples_are_averaged() -> None:
    target = (torch.cat((logits_of(*P), logits_of(*P))), torch.cat((logits_of(*P), logits_of(*P))))
    other = (torch.cat((logits_of(*Q), logits_of(*P))), torch.cat((logits_of(*P), logits_of(*P))))
    assert divergence(target, other).item() == pytest.approx(FORWARD / 4, abs=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_padding_adds_nothing_to_loss_and_gradient(direction: str) -> None:
    padding = torch.full((1, 3), PADDING_LOGIT)
    short = logits_of(*Q).requires_grad_()
    padded = torch.cat((logits_of(*Q), padding), 1).requires_grad_()
    alone = divergence((logits_of(*P),), (short,), direction, temperature=2.0)
    beside = divergence((torch.cat((logits_of(*P), padding), 1),), (padded,), direction, temperature=2.0)
    torch.testing.assert_close(alone, beside)
    torch.autograd.backward([alone, beside])
    assert short.grad is not None
    assert padded.grad is not None
    torch.testing.assert_close(padded.grad, torch.cat((short.grad, torch.zeros(1, 3)), 1))


def test_a_temperature_divides_both_logits() -> None:
    squared = (0.64 / 0.68, 0.04 / 0.68)  # what Q becomes at temperature 1/2
    expected = 0.5 * math.log(0.5 / squared[0]) + 0.5 * math.log(0.5 / squared[1])
    found = divergence((logits_of(*P),), (logits_of(*Q),), temperature=0.5)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_another_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="forward, reverse"):
        divergence((logits_of(*P),), (logits_of(*Q),), "sideways")


def test_the_teacher_has_its_share_of_the_loss() -> None:
    label = torch.tensor(3.0)
    found = taught_loss(label, (logits_of(*P),), (logits_of(*Q),), 0.25, 1.0)
    assert found.item() == pytest.approx(0.75 * 3.0 + 0.25 * FORWARD, abs=1e-6)
    warm = taught_loss(label, (logits_of(*P),), (logits_of(*Q),), 1.0, 0.5)
    cold = divergence((logits_of(*P),), (logits_of(*Q),), temperature=0.5)
    assert warm.item() == pytest.approx(0.25 * cold.item(), abs=1e-6)


@dataclass
class Toy:
    """Each pass scales the logits ``(w, 0)`` by its own factor."""

    weight: Tensor

    def run(self, factor: float) -> Logits:
        return (torch.stack((self.weight * factor, torch.zeros(())))[None],)


def test_each_pass_weighs_the_same_and_sub_models_do_not_move_the_full_one() -> None:
    toy = Toy(torch.tensor(1.0, requires_grad=True))
    found = sandwich([1.0, 0.5, 0.0], toy.run, lambda logits: 6.0 * logits[0][0, 0])

    # by hand: p = sigmoid(1) is held fixed; KL(p || sigmoid(c w)) has the slope c (sigmoid(c w) - p)
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    p = sigmoid(1.0)

    def loss(other: float) -> float:
        return p * math.log(p / other) + (1 - p) * math.log((1 - p) / (1 - other))

    assert found.full == pytest.approx(6.0)
    assert found.sub_models == pytest.approx((loss(sigmoid(0.5)), loss(0.5)), abs=1e-6)
    assert toy.weight.grad is not None
    assert toy.weight.grad.item() == pytest.approx((6.0 + 0.5 * (sigmoid(0.5) - p) + 0.0) / 3, abs=1e-6)


def test_the_mean_is_over_all_passes() -> None:
    assert PassLosses(4.0, (1.0, 2.0, 1.0)).mean == 2.0
    assert PassLosses(4.0, ()).mean == 4.0


def test_gradients_are_pulled_after_every_pass() -> None:
    toy, pulls = Toy(torch.tensor(1.0, requires_grad=True)), []
    sandwich([1.0, 0.5, 0.2], toy.run, lambda logits: logits[0].sum(), pulled=lambda: pulls.append(toy.weight.grad))
    assert len(pulls) == 3


def test_a_working_copy_sums_the_gradients_of_several_passes_in_float32() -> None:
    master = random_network(scale=0.1)
    working = WorkingCopy(master, torch.bfloat16)
    batch = random_batch([12, 9])
    once: list[Tensor] = []
    for _ in range(3):
        torch.autograd.backward(working.network(batch)[0][:, :9].sum())
        working.pull_gradients()
        grads = [p.grad for layer in master.layers for p in layer.parameters() if p.grad is not None]
        once = once or [grad.clone() for grad in grads]
    assert len(grads) == 3 * 12
    assert {grad.dtype for grad in grads} == {torch.float32}
    for grad, first in zip(grads, once, strict=True):
        torch.testing.assert_close(grad, 3 * first, rtol=1e-6, atol=0)


def test_passes_one_by_one_have_the_gradient_of_the_sum() -> None:
    batch = random_batch([20, 14, 9])
    labels = torch.zeros_like(batch.real)
    labels[:, 5] = True
    passes = LengthDrop(layers=3, probability=0.5, layer_drop=0.3, protect="special").sub_models(batch, 0)
    one, other = random_network(scale=0.2), random_network(scale=0.2)

    def run(sub_model: SubModel) -> Logits:
        logits: Logits = one(batch, sub_model.kept, protected=sub_model.protected, skipped=sub_model.skipped)
        return logits

    sandwich(passes, run, lambda logits: marginal_span_loss(logits[0], logits[1], labels, labels), direction="reverse")
    full, *rest = [other(batch, s.kept, protected=s.protected, skipped=s.skipped) for s in passes]
    fixed = tuple(logits.detach() for logits in full)
    losses = [
        marginal_span_loss(full[0], full[1], labels, labels),
        *(divergence(fixed, logits, "reverse") for logits in rest),
    ]
    torch.autograd.backward(torch.stack(losses).mean())
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
