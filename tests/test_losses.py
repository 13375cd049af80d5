"""The losses, against tables small enough to check by eye."""

import math

import pytest
import torch

from internvideo_hf.losses import contrastive_loss


def test_contrastive_loss_of_a_table_by_hand():
    # As odds: video 0 names its text with 3 of 4, video 1 with 1 of 3; text 0 with 3 of 5, text 1 with 1 of 2.
    table = torch.tensor([[3.0, 1.0], [2.0, 1.0]]).log()
    expected = -(math.log(3 / 4) + math.log(1 / 3) + math.log(3 / 5) + math.log(1 / 2)) / 4
    assert contrastive_loss(table).item() == pytest.approx(expected)


def test_contrastive_loss_does_not_care_which_side_is_video():
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(contrastive_loss(table), contrastive_loss(table.T))


def test_contrastive_loss_knows_no_answer_and_the_right_answer():
    assert contrastive_loss(torch.zeros(7, 7)).item() == pytest.approx(math.log(7))
    assert contrastive_loss(100 * torch.eye(7)).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(100 * torch.eye(7).roll(1, 0)).item() == pytest.approx(100)


def test_contrastive_loss_pulls_partners_together_and_pushes_the_others_apart():
    table = torch.zeros(3, 3, requires_grad=True)
    contrastive_loss(table).backward()
    # (probability - target) over 3 rows, the mean of both directions
    torch.testing.assert_close(table.grad, (torch.full((3, 3), 1 / 3) - torch.eye(3)) / 3)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 4)])
def test_contrastive_loss_refuses_unequal_counts_with_both_numbers(shape):
    with pytest.raises(ValueError, match=f"{shape[0]} videos and {shape[1]} texts.*return_loss"):
        contrastive_loss(torch.zeros(shape))
