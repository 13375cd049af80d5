"""Processors of the released UniFormerV2 models."""

from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.labels import load_labels


def build_processor(config: UniFormerV2Config) -> InternVideoVideoProcessor:
    """The released test view: frames spread over the video, a short side of the crop's size, the middle crop.

    The models of Something-Something see blue first: their frames came from OpenCV, and nobody turned them.
    """
    of_something = config.num_labels == len(load_labels("ssv2")) and config.num_local_blocks > 0
    return InternVideoVideoProcessor(
        num_frames=config.num_frames,
        sampler="uniformerv2",
        size={"shortest_edge": config.image_size},
        resize_method="torch_bilinear",
        resize_rounding="floor",
        crop_size={"height": config.image_size, "width": config.image_size},
        crop_rounding="ceil",
        channel_order="bgr" if of_something else "rgb",
        image_mean=[0.45] * 3,
        image_std=[0.225] * 3,
    )
