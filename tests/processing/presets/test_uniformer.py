"""The processor of UniFormer."""

import numpy as np
import pytest

from internvideo_hf import UniFormerConfig
from internvideo_hf.processing.presets import build_processor


def test_ego4d_samples_equal_steps_from_the_first_frame_and_crops_the_center():
    processor = build_processor(UniFormerConfig(num_labels=20, num_frames=8, image_size=320))
    assert (processor.num_frames, processor.sampler, processor.resize_method) == (8, "videomae_sparse", "cv2_linear")
    assert (processor.size["shortest_edge"], processor.crop_size["height"]) == (320, 320)
    assert list(processor.image_mean) == [0.485, 0.456, 0.406] and list(processor.image_std) == [0.229, 0.224, 0.225]
    # 60 frames of the brightness of their number: int(7.5 x) of the first segment, int(3.75 + 7.5 x) of the second.
    video = np.tile(np.arange(60, dtype=np.uint8)[:, None, None, None], (1, 320, 320, 3))
    pixels = processor([video], num_clips=2, return_tensors="pt").pixel_values_videos
    numbers = (pixels[:, :, 0, 0, 0] * 0.229 + 0.485) * 255
    assert numbers.round().int().tolist() == [[0, 7, 15, 22, 30, 37, 45, 52], [3, 11, 18, 26, 33, 41, 48, 56]]


@pytest.mark.parametrize("classes", [400, 600])
def test_kinetics_has_other_pixels(classes):
    processor = build_processor(UniFormerConfig(num_labels=classes))
    assert list(processor.image_mean) == [0.45] * 3 and list(processor.image_std) == [0.225] * 3
    assert processor.sampler == "videomae_dense" and processor.crop_size["width"] == 224
