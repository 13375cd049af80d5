"""The processor of VideoMAE."""

import pytest

from internvideo_hf import InternVideoMAEConfig
from internvideo_hf.processing.presets import build_processor


@pytest.mark.parametrize(("frames", "size"), [(16, 224), (32, 384)])
def test_frames_and_size_are_the_models(frames, size):
    config = InternVideoMAEConfig(num_frames=frames, image_size=size, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    processor = build_processor(config)
    assert (processor.num_frames, processor.sampler) == (frames, "videomae_dense")
    assert processor.sampler_kwargs == {"sampling_rate": 4}
    assert (processor.size["shortest_edge"], processor.crop_size["height"]) == (size, size)
    assert (processor.resize_method, processor.crop_rounding) == ("cv2_linear", "floor")
    assert (list(processor.image_mean), list(processor.image_std)) == ([0.5] * 3, [0.25] * 3)
