"""The processor of InternVideo-MM."""

import pytest

from internvideo_hf import InternVideoMMConfig
from internvideo_hf.processing.presets import build_processor


@pytest.mark.parametrize(("size", "short_side"), [(224, 256), (336, 384)])
def test_frames_size_and_text_length_are_the_models(size, short_side):
    vision = {"image_size": size, "patch_size": 14, "num_frames": 12}
    processor = build_processor(InternVideoMMConfig(vision_config=vision, text_config={"max_position_embeddings": 50}))
    video = processor.video_processor
    assert (video.num_frames, video.sampler, video.resize_method) == (12, "internvideo_mm", "pil_bilinear")
    assert (video.size["shortest_edge"], video.crop_size["height"]) == (short_side, size)
    assert processor.tokenizer.model_max_length == 50


def test_it_has_one_processor_only():
    with pytest.raises(ValueError, match="internvideo_mm has only one"):
        build_processor(InternVideoMMConfig(), "demo")
