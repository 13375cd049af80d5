"""Processors of ViCLIP: pixels of the training code and of the inference demo."""

import numpy as np
import pytest
import torch

from internvideo_hf import InternVideoVideoProcessor, ViCLIPConfig
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.processing.presets.viclip import PROCESSORS, demo_pixels, training_pixels


@pytest.mark.parametrize("protocol", ["zero_shot/viclip_k400", "retrieval/viclip_msrvtt"])
def test_protocols_state_the_pixels_of_the_saved_processor(protocol):
    saved = training_pixels(ViCLIPConfig())
    for name, value in load_protocol(protocol).processor.items():
        found = getattr(saved, name)
        assert (dict(found) if isinstance(value, dict) else found) == value, name


@pytest.mark.parametrize("name", PROCESSORS)
def test_whole_frames_are_squeezed_to_a_square(name):
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 70, 3), dtype=np.uint8)
    pixels = PROCESSORS[name](ViCLIPConfig())(frames, return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, 8, 3, 224, 224)


def test_bgr_is_what_arrays_hold_and_never_what_files_and_images_do(bikes):
    rgb = np.random.default_rng(0).integers(0, 256, (9, 40, 70, 3), dtype=np.uint8)
    demo = demo_pixels(ViCLIPConfig())
    plain = demo_pixels(ViCLIPConfig())
    plain.input_channel_order = "rgb"

    def pixels(processor, video, **options):
        return processor(video, return_tensors="pt", **options)["pixel_values_videos"]

    expected = pixels(plain, rgb)
    assert torch.equal(pixels(demo, rgb[..., ::-1].copy()), expected)
    assert torch.equal(pixels(demo, list(rgb[..., ::-1].copy())), expected)
    assert torch.equal(pixels(demo, rgb, input_channel_order="rgb"), expected)
    assert torch.equal(pixels(demo, bikes), pixels(plain, bikes))
    with pytest.raises(ValueError, match="input_channel_order"):
        pixels(InternVideoVideoProcessor(), rgb, input_channel_order="grb")
