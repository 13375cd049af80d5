"""The configuration of InternVideoMAE: released sizes, and checks of its numbers."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from models.internvideo_mae.test_modeling_internvideo_mae import tiny_config

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
)

MANIFESTS = Path(__file__).parents[2] / "manifests"


def layer_parameters(width: int, inner: int) -> int:
    attention = 3 * width * width + 2 * width + width * width + width
    return 4 * width + attention + 2 * width * inner + inner + width


def parameters(size: str, num_labels: int | None) -> int:
    """Of a model of a named size on the meta device; pretraining without `num_labels`."""
    with torch.device("meta"):
        if num_labels is None:
            config = InternVideoMAEConfig.from_size(size, use_mean_pooling=False)
            return InternVideoMAEForPreTraining(config).num_parameters()
        return InternVideoMAEForVideoClassification(
            InternVideoMAEConfig.from_size(size, num_labels=num_labels)
        ).num_parameters()


@pytest.mark.parametrize(
    ("size", "num_labels", "manifest"),
    [
        ("base", None, "vit_b_hybrid_pt_800e"),
        ("large", None, "vit_l_hybrid_pt_800e"),
        ("huge", None, "vit_h_hybrid_pt_1200e"),
        ("giant", None, "pretrain_giant_patch14"),
        ("base", 400, "vit_b_hybrid_pt_800e_k400_ft"),
        ("large", 174, "vit_l_hybrid_pt_800e_ssv2_ft"),
        ("huge", 51, "ViT-H_hmdb51"),
    ],
)
def test_named_sizes_have_the_released_number_of_parameters(size, num_labels, manifest):
    expected = json.loads((MANIFESTS / f"{manifest}.json").read_text())["total_parameters"]
    assert parameters(size, num_labels) == expected


def test_small_has_the_number_of_parameters_of_its_sizes():
    width, decoder, pixels = 384, 192, 2 * 16 * 16 * 3
    encoder_parameters = pixels * width + width + 12 * layer_parameters(width, 4 * width) + 2 * width
    decoder_parameters = 4 * layer_parameters(decoder, 4 * decoder) + 2 * decoder + decoder * pixels + pixels
    assert parameters("small", None) == encoder_parameters + width * decoder + decoder + decoder_parameters
    assert parameters("small", 400) == encoder_parameters + 400 * width + 400


def test_unknown_size_lists_the_known():
    with pytest.raises(ValueError, match="'tiny', expected one of small, base, large, huge, giant"):
        InternVideoMAEConfig.from_size("tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads=5 must divide hidden_size=24"),
        ({"decoder_num_attention_heads": 3}, "decoder_num_attention_heads=3 must divide decoder_hidden_size=20"),
        ({"patch_size": 7}, "patch_size=7 must divide image_size=32"),
        ({"tubelet_size": 3}, "tubelet_size=3 must divide num_frames=4"),
        ({"position_embedding_type": "sine"}, "'sine' must be 'sinusoidal' or 'learned'"),
        ({"detection_head": "ACAR"}, "'ACAR' must be 'linear' or 'acar'"),
        ({"roi_size": 0}, "roi_size=0 must be 1 or more"),
        ({"roi_sampling_ratio": -1}, "roi_sampling_ratio=-1 must be 0 or more"),
        ({"roi_scale": 0.0}, "roi_scale=0.0 must be above 0, or None"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**changes)
