"""Losses on small tables."""

import math

import pytest
import torch

from internvideo_hf.models.common.losses import contrastive_loss, gather_with_gradient, gathered_contrastive_loss


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


def test_texts_of_one_group_share_their_videos_in_equal_parts():
    table = torch.tensor([[3.0, 1.0, 4.0], [2.0, 1.0, 1.0], [1.0, 5.0, 2.0]]).log()
    rows = [[3 / 8, 4 / 8], [1 / 4], [1 / 8, 2 / 8]]
    columns = [[3 / 6, 1 / 6], [1 / 7], [4 / 7, 2 / 7]]
    expected = [-sum(map(math.log, odds)) / len(odds) / 6 for odds in rows + columns]
    assert contrastive_loss(table, torch.tensor([5, 1, 5])).item() == pytest.approx(sum(expected))


def test_groups_of_one_are_no_groups():
    table = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(contrastive_loss(table, torch.tensor([3, 1, 0, 7])), contrastive_loss(table))


def test_groups_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\), expected one for each of 3"):
        contrastive_loss(torch.zeros(3, 3), torch.tensor([0, 1]))


def test_in_one_process_there_is_nothing_to_gather():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_with_gradient(rows) is rows
    embeds = torch.nn.functional.normalize(rows, dim=-1)
    expected = contrastive_loss(10 * embeds @ embeds.flip(0).T)
    torch.testing.assert_close(gathered_contrastive_loss(embeds, embeds.flip(0), 10.0), expected)
