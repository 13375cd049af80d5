"""Lines of CLIP's layers in key tables, on torch's own modules."""

import torch
from torch import nn

from internvideo_hf.checkpoints.clip_layout import attention, layer
from internvideo_hf.checkpoints.table import convert_state_dict


@torch.no_grad()
def test_stacked_projections_compute_the_same_attention():
    torch.manual_seed(0)
    module, tokens = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)
    released = {f"released.{name}": tensor for name, tensor in module.state_dict().items()}
    converted, left_out = convert_state_dict(released, attention("released", "ours"))
    assert not left_out and len(converted) == 8

    def project(part: str, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(inputs, converted[f"ours.{part}.weight"], converted[f"ours.{part}.bias"])

    query, key, value = (project(f"{part}_proj", tokens).unflatten(2, (2, 4)).transpose(1, 2) for part in "qkv")
    mixed = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(project("out_proj", mixed), module(tokens, tokens, tokens)[0], atol=1e-6, rtol=1e-5)


def test_a_layer_is_covered_at_every_depth():
    names = {"ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj", "attn.out_proj"}
    released = {f"blocks.11.{name}.{kind}": torch.ones(2) for name in names for kind in ("weight", "bias")}
    released |= {f"blocks.11.attn.in_proj_{kind}": torch.ones(6) for kind in ("weight", "bias")}
    converted, _ = convert_state_dict(released, layer("blocks.{}", "layers.{}"))
    assert len(converted) == 16 and all(name.startswith("layers.11.") for name in converted)
