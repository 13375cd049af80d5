"""The shared layers: drop path keeps the mean, masks select tokens, positions fit other grids."""

import pytest
import torch
from models.model_checks import draw

from internvideo_hf.models.common.layers import (
    DropPath,
    PatchConv,
    drop_path_rates,
    resample_position_rows,
    select_tokens,
    visible_mask,
)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    branch = torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    kept = DropPath(0.25).train()(branch)
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (kept.flatten(1) == kept[:, :1, 0]).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(DropPath(0.25).eval()(branch), branch) and torch.equal(DropPath(0.0)(branch), branch)


def test_drop_path_rates_rise_linearly_from_zero():
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0] and drop_path_rates(0.3, 0) == []


def test_tokens_are_selected_in_their_order():
    tokens, mask = draw(2, 4, 3), torch.tensor([[True, False, False, True], [False, True, True, False]])
    chosen = select_tokens(tokens, visible_mask(mask, tokens.shape[:2]))
    assert torch.equal(chosen, torch.stack([tokens[0, [1, 2]], tokens[1, [0, 3]]]))


def test_patch_convolution_takes_pixels_of_another_float_type():
    conv, pixels = PatchConv(3, 4, kernel_size=(1, 2, 2)), draw(1, 3, 1, 4, 4)
    assert torch.equal(conv(pixels.double()), conv(pixels)) and conv.half()(pixels).dtype == torch.float16


def test_positions_of_a_sequence_are_cut_or_interpolated():
    table = torch.arange(4.0)[:, None]
    assert resample_position_rows(table, 2).flatten().tolist() == [0.0, 1.0]
    assert torch.equal(resample_position_rows(table, 4), table)
    expected = torch.nn.functional.interpolate(table.T[None], size=8, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(resample_position_rows(table, 8), expected)
