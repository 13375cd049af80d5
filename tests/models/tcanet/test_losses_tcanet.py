"""Losses of TCANet, by hand."""

import math

import pytest
import torch

from internvideo_hf.models.tcanet.losses_tcanet import boundary_loss, match_segments, overlap, overlap_loss


def test_overlap_is_that_of_intervals():
    first = torch.tensor([[0.0, 4.0], [0.0, 1.0], [1.0, 3.0]])
    found = overlap(first, torch.tensor([[2.0, 6.0], [2.0, 3.0], [1.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([1 / 3, 0.0, 1.0]), atol=1e-5, rtol=0)


def test_proposals_get_the_segment_that_they_overlap_best():
    proposals = torch.tensor([[0.0, 4.0], [5.0, 9.0], [20.0, 21.0]])
    segments = torch.tensor([[3.0, 6.0], [0.0, 3.0], [6.0, 9.0]])
    assert match_segments(proposals, segments).tolist() == [[0, 3], [6, 9], [3, 6]]
    assert not match_segments(proposals, segments[:0]).any()


def test_boundaries_are_learned_in_widths_of_the_proposal():
    proposals, labels = torch.tensor([[[2.0, 6.0], [0.0, 1.0]]]), torch.tensor([[[3.0, 5.0], [0.0, 9.0]]])
    weights = torch.tensor([[1.0, 0.0]])
    right = torch.tensor([[[0.25, -0.25], [7.0, 7.0]]]), torch.tensor([[[0.0, -math.log(2)], [7.0, 7.0]]])
    assert boundary_loss(*right, proposals, labels, weights).item() == pytest.approx(0, abs=1e-9)
    # Errors of 0.5 and 2 cost 0.125 and 1.5.
    wrong = right[0] + torch.tensor([0.5, 0.0]), right[1] + torch.tensor([0.0, 2.0])
    assert boundary_loss(*wrong, proposals, labels, weights).item() == pytest.approx(1.625)
    assert boundary_loss(*wrong, proposals, labels, 0 * weights).item() == 0


def test_as_many_middle_and_low_examples_count_as_there_are_high_ones():
    overlaps = torch.tensor([0.9, 0.5, 0.4, 0.2, 0.0, 0.1, 0.9])
    is_real = torch.tensor([True] * 6 + [False])
    # One high example: of two middle ones each counts at a draw above 1 - 1/2, of three low ones above 1 - 1/3.
    draws = torch.tensor([[0.9, 0.9], [0.6, 0.9], [0.4, 0.9], [0.9, 0.7], [0.9, 0.6], [0.9, 0.1], [0.9, 0.9]])
    predicted = overlaps + torch.tensor([0.2, 0.4, 9.0, 0.6, 9.0, 9.0, 9.0])
    expected = 0.5 * (0.2**2 + 0.4**2 + 0.6**2) / 3
    assert overlap_loss(predicted, overlaps, 0.5, draws, is_real).item() == pytest.approx(expected)


def test_without_high_examples_nothing_counts_and_nothing_is_undefined():
    overlaps = torch.tensor([0.5, 0.2])
    for kinds in (overlaps, overlaps[:1], overlaps[:0]):
        real = torch.ones(len(kinds), dtype=torch.bool)
        assert overlap_loss(kinds + 1, kinds, 0.5, torch.ones(len(kinds), 2) * 0.999, real).item() == 0


def test_many_high_examples_leave_no_other_out():
    overlaps = torch.tensor([0.9, 0.8, 0.4, 0.1])
    found = overlap_loss(overlaps + 1, overlaps, 0.5, torch.full((4, 2), 1e-6), torch.ones(4, dtype=torch.bool))
    assert found.item() == pytest.approx(0.5)
