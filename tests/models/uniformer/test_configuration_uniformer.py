"""Sizes of UniFormer."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoConfig

from internvideo_hf import UniFormerConfig


def test_defaults_are_the_base_size_of_the_paper(tmp_path):
    config = UniFormerConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.patch_size) == (512, 40, 32)
    assert config.to_dict() == UniFormerConfig.from_size("base").to_dict()
    assert UniFormerConfig.from_size("small", num_labels=5).depths == [3, 4, 8, 3]
    with pytest.raises(ValueError, match="size: got 'huge'"):
        UniFormerConfig.from_size("huge")
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": [1, 2, 3]}, r"depths=\[1, 2, 3\] must be 4 numbers above 0"),
        ({"hidden_sizes": [8, 0, 8, 8]}, r"hidden_sizes=\[8, 0, 8, 8\] must be 4"),
        ({"head_dim": 48}, r"head_dim=48 must divide the last two of hidden_sizes=\[64, 128, 320, 512\]"),
        ({"head_dim": 0}, "head_dim=0"),
        ({"mlp_ratio": 0.01}, "mlp_ratio=0.01 leaves no channel"),
        ({"image_size": 200}, "image_size=200 must be a multiple of 32"),
        ({"num_frames": -1}, "num_frames"),
    ],
)
def test_numbers_that_make_no_model_are_refused(changes, words):
    with pytest.raises(StrictDataclassClassValidationError, match=words):
        UniFormerConfig(**changes)
