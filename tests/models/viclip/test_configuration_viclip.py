"""The configuration of ViCLIP: released sizes, and checks of its numbers."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from internvideo_hf import ViCLIPConfig, ViCLIPModel, ViCLIPVisionConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads=5 must divide hidden_size=768"),
        ({"tubelet_size": 3}, "tubelet_size=3 must divide num_frames=8"),
        ({"patch_size": 15}, "patch_size=15 must divide image_size=224"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0 must be"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(StrictDataclassError) as error:
        ViCLIPVisionConfig(**changes)
    assert message in str(error.value.__cause__ or error.value)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(StrictDataclassError) as error:
        ViCLIPConfig(temperature_min=0.0)
    assert "temperature_min=0.0 must be above 0" in str(error.value.__cause__ or error.value)


def test_default_sizes_are_those_of_the_released_b16():
    with torch.device("meta"):
        model = ViCLIPModel(ViCLIPConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 149_603_841
