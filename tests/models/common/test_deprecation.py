"""The line that a warning about a deprecated name blames."""

import pytest
import torch

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForPreTraining


def tiny_model() -> InternVideoMAEForPreTraining:
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    encoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = InternVideoMAEConfig(
        image_size=16, patch_size=8, num_frames=2, use_mean_pooling=False, **encoder, **decoder
    )
    return InternVideoMAEForPreTraining(config).eval()


@pytest.mark.parametrize("wraps", [lambda model: model, torch.no_grad()], ids=["plain", "decorated"])
def test_the_line_of_the_caller_is_blamed(wraps):
    """`forward` is called through wrappers of torch and transformers, `targets` through none."""
    model, mask = tiny_model(), torch.tensor([[True, False, True, False]])
    with pytest.warns(FutureWarning) as caught:
        wraps(model)(torch.zeros(1, 2, 3, 16, 16), mask, bool_unwanted_pos=~mask)
        model.targets(cubes=torch.zeros(1, 4, 384))
    assert [warning.filename for warning in caught] == [__file__, __file__]
