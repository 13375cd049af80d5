"""The shared layers: drop path keeps the mean, masks select tokens, positions fit other grids."""

import pytest
import torch
from models.model_checks import draw
from transformers import BertConfig
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import BertLayer

from internvideo_hf.models.common.layers import (
    DropPath,
    PatchConv,
    PostNormLayer,
    QuickGELU,
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


def test_quick_gelu_is_that_of_transformers_and_leaves_its_input():
    torch.manual_seed(0)
    tokens = (3 * torch.randn(2, 5, 8)).requires_grad_()
    results = []
    for activation in (QuickGELU(), ACT2FN["quick_gelu"]):
        values = activation(tokens)
        results.append((values.detach(), *torch.autograd.grad(values.square().sum(), tokens)))
    with torch.no_grad():
        before = tokens.clone()
        results.append((QuickGELU()(tokens), results[0][1]))
    assert torch.equal(tokens, before)
    for values, gradient in results:
        torch.testing.assert_close(values, results[1][0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient, results[1][1], rtol=1e-5, atol=1e-5)


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


@torch.no_grad()
def test_the_post_norm_layer_is_that_of_bert():
    config = BertConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2, attn_implementation="eager")
    config.hidden_dropout = config.attention_dropout = 0.0
    torch.manual_seed(0)
    theirs, ours = BertLayer(config).eval(), PostNormLayer(config).eval()
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter))
    names = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "layer_norm1": "attention.output.LayerNorm",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "layer_norm2": "output.LayerNorm",
    }
    for name, released in names.items():
        ours.get_submodule(name).load_state_dict(theirs.get_submodule(released).state_dict())
    tokens, mask = draw(2, 5, 8), torch.zeros(2, 1, 1, 5)
    mask[1, ..., 3:] = -10_000
    torch.testing.assert_close(ours(tokens, mask), theirs(tokens, mask))
