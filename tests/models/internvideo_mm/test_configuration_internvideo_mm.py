"""The configuration of InternVideo-MM: the released sizes."""

import json
from pathlib import Path

import torch

from internvideo_hf import InternVideoMMConfig, InternVideoMMModel


def test_default_sizes_are_those_of_the_released_b16():
    with torch.device("meta"):
        model = InternVideoMMModel(InternVideoMMConfig())
    manifest = json.loads((Path(__file__).parents[2] / "manifests/InternVideo-MM-B-16.json").read_text())
    assert model.num_parameters() == manifest["total_params"]


def test_towers_are_given_as_dicts_or_configurations():
    config = InternVideoMMConfig(vision_config={"hidden_size": 96, "num_attention_heads": 2}, text_config=None)
    assert config.vision_config.hidden_size == 96 and config.text_config.hidden_size == 512
    assert InternVideoMMConfig(vision_config=config.vision_config).vision_config is config.vision_config
