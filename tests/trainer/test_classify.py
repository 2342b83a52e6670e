from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.trainer.helpers import SMALL, one_of, random_batch, random_network
from trainer.classify import SequenceClassifier, classification_sandwich
from trainer.length_drop import LengthDrop
from trainer.network import Batch

DROP = LengthDrop(layers=SMALL.layers, probability=0.4, protect="special")
MARK = 49


def task(seed: int, size: int = 32) -> tuple[Batch, Tensor]:
    """Does piece 49 stand somewhere in the window?"""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(8, 24, (size,), generator=generator).tolist()
    batch = random_batch(lengths, replace(SMALL, vocabulary=MARK), seed)
    classes = torch.randint(0, 2, (size,), generator=generator)
    places = (torch.rand(size, generator=generator) * (batch.lengths - 3)).long() + 2
    ids = batch.token_ids.scatter(1, places[:, None], torch.where(classes == 1, MARK, 5)[:, None])
    ids[:, 0] = 2
    return replace(batch, token_ids=ids), classes


def accuracy(classifier: SequenceClassifier, *, smallest: bool) -> float:
    batch, classes = task(seed=10_000, size=200)
    sub_model = DROP.sub_models(batch, 0)[1] if smallest else None
    with torch.no_grad():
        right = classifier(batch, sub_model).argmax(1) == classes
    return float(right.float().mean())


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_tiny_network_learns_a_task_at_full_and_smallest_length(direction: str) -> None:
    classifier = SequenceClassifier(random_network(scale=0.1), 2)
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=5e-3)
    for step in range(150):
        batch, classes = task(step)
        losses = classification_sandwich(classifier, batch, classes, DROP.sub_models(batch, step), direction=direction)
        optimizer.step()
        optimizer.zero_grad()
    assert len(losses.sub_models) == 3
    assert accuracy(classifier, smallest=False) > 0.95
    assert accuracy(classifier, smallest=True) > 0.9


def test_padding_does_not_change_the_class() -> None:
    classifier = SequenceClassifier(random_network(), 3)
    batch = random_batch([24, 9])
    assert classifier(batch).shape == (2, 3)
    torch.testing.assert_close(classifier(batch)[1:], classifier(one_of(batch, 1)))


def test_the_span_head_is_not_trained() -> None:
    classifier = SequenceClassifier(random_network(), 2)
    batch, classes = task(0)
    classification_sandwich(classifier, batch, classes, DROP.sub_models(batch, 0))
    assert classifier.encoder.head.weight.grad is None
    assert classifier.head.weight.grad is not None


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        SequenceClassifier(random_network(), 1)
