"""The processor of UniFormerV2."""

import pytest

from internvideo_hf import UniFormerV2Config
from internvideo_hf.processing.presets import build_processor


@pytest.mark.parametrize(
    ("labels", "local_blocks", "order"), [(174, 1, "bgr"), (174, 2, "bgr"), (174, 0, "rgb"), (400, 1, "rgb")]
)
def test_models_of_something_something_take_bgr(labels, local_blocks, order):
    config = UniFormerV2Config(num_labels=labels, num_local_blocks=local_blocks, num_frames=16, image_size=336)
    processor = build_processor(config)
    assert processor.channel_order == order
    assert (processor.num_frames, processor.sampler, processor.resize_rounding) == (16, "uniformerv2", "floor")
    assert (processor.size["shortest_edge"], processor.crop_size["width"]) == (336, 336)
