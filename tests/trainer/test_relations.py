from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.relations import check_relation_heads, relation_loss

TWO = torch.tensor([2])
WHOLE = torch.tensor([7, 7])
PADDED = torch.tensor([7, 3])


def random_vectors(width: int, seed: int, windows: int = 2, tokens: int = 7) -> Tensor:
    return torch.randn(windows, tokens, width, generator=torch.Generator().manual_seed(seed))


def test_two_tokens_and_one_head_by_hand() -> None:
    # products: the first token 0 with both, the second 0 with the first and ln 3 with itself
    teacher = torch.tensor([[[0.0], [math.sqrt(math.log(3))]]])  # relations (1/2, 1/2) and (1/4, 3/4)
    student = torch.zeros(1, 2, 1)  # (1/2, 1/2) and (1/2, 1/2)
    expected = (0.0 + 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)) / 2
    assert relation_loss(teacher, student, TWO, heads=1).item() == pytest.approx(expected)
    # the other way round it is another divergence
    reverse = (0.0 + 1 / 2 * math.log(2) + 1 / 2 * math.log(2 / 3)) / 2
    assert relation_loss(student, teacher, TWO, heads=1).item() == pytest.approx(reverse)


def test_products_are_divided_by_the_root_of_each_ones_own_head_width() -> None:
    narrow = torch.tensor([[[0.0], [math.sqrt(math.log(3))]]])
    wide = torch.tensor([[[0.0] * 4, [math.sqrt(2 * math.log(3)), 0.0, 0.0, 0.0]]])  # sqrt(4) = 2
    assert relation_loss(wide, narrow, TWO, heads=1).item() == pytest.approx(0.0, abs=1e-7)


def test_vectors_are_split_anew_into_relation_heads_side_by_side() -> None:
    teacher, student = random_vectors(12, 0), random_vectors(6, 1)
    alone = [
        relation_loss(theirs, ours, WHOLE, heads=1)
        for theirs, ours in zip(teacher.chunk(3, -1), student.chunk(3, -1), strict=True)
    ]
    torch.testing.assert_close(relation_loss(teacher, student, WHOLE, heads=3), torch.stack(alone).mean())


def test_padding_neither_asks_nor_is_asked_and_every_window_counts_the_same() -> None:
    teacher, student = random_vectors(8, 0), random_vectors(4, 1).requires_grad_()
    alone = [
        relation_loss(teacher[row, None, :length], student[row, None, :length], torch.tensor([length]), heads=2)
        for row, length in enumerate((7, 3))
    ]
    loss = relation_loss(teacher, student, PADDED, heads=2)
    torch.testing.assert_close(loss, torch.stack(alone).mean())
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool((gradient[1, 3:] == 0).all())
    assert bool((gradient[1, :3] != 0).all())


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_who_relates_tokens_as_the_teacher_does_has_nothing_to_learn(heads: int) -> None:
    vectors = random_vectors(8, 0).requires_grad_()
    loss = relation_loss(vectors.detach(), vectors, PADDED, heads)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, vectors)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("heads", "teacher", "student"), [(48, 768, 32), (48, 100, 384), (0, 768, 384), (-1, 2, 2)])
def test_relation_heads_that_do_not_divide_both_widths_are_refused(heads: int, teacher: int, student: int) -> None:
    check_relation_heads(48, 768, 384)
    with pytest.raises(ValueError, match=rf"width {teacher} and the student's {student}, and {heads} does not"):
        check_relation_heads(heads, teacher, student)
