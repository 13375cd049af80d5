"""Figures of the comparison with torch."""

import pytest
import torch

from internvideo_hf.export.parity import Bound, ParityError, agreement, check, worse
from internvideo_hf.models.common.exported.manifest import Agreement


def test_the_worst_row_counts():
    expected = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = agreement(expected, torch.tensor([[1.0, 0.0], [2.0, 2.0]]))
    assert (found.difference, found.scale) == (2.0, 2.0)
    assert found.cosine == pytest.approx(0.5**0.5)
    assert agreement(expected, expected) == Agreement(0.0, 2.0, 1.0)


def test_rows_of_zeros_agree_with_zeros_alone():
    zeros = torch.zeros(1, 3)
    assert agreement(zeros, zeros).cosine == 1
    assert agreement(zeros, torch.ones(1, 3)).cosine == 0


@pytest.mark.parametrize("got", [torch.ones(1, 3), torch.tensor([[1.0, torch.nan]])])
def test_other_shapes_and_what_is_not_finite_are_refused(got):
    with pytest.raises(ParityError):
        agreement(torch.ones(1, 2), got)


def test_the_worse_figures_of_two_comparisons_are_kept():
    assert worse(Agreement(1.0, 5.0, 0.9), Agreement(2.0, 4.0, 1.0)) == Agreement(2.0, 5.0, 0.9)


@pytest.mark.parametrize(("difference", "cosine"), [(0.02, 1.0), (0.0, 0.98)])
def test_what_exceeds_a_bound_is_refused(difference, cosine):
    bound, good = Bound(0.99, 1e-2), Agreement(0.009, 1.0, 0.991)
    check("video", {"logits": good}, bound)
    with pytest.raises(ParityError, match=r"'video' differs from torch: its logits has a cosine of .*at least 0\.99"):
        check("video", {"pooler_output": good, "logits": Agreement(difference, 1.0, cosine)}, bound)
    check("video", {"logits": Agreement(5.0, 1.0, 1.0)}, Bound(0.99))
