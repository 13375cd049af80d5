"""Processors of the released UniFormerV2 models."""

from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.labels import load_labels


def build_processor(config: UniFormerV2Config) -> InternVideoVideoProcessor:
    """Build the processor of the released test: frames over the whole video, short side resized to the crop.

    The models of Something-Something take BGR input: frames were read with OpenCV and never converted.
    """
    is_something = config.num_labels == len(load_labels("ssv2")) and config.num_local_blocks > 0
    return InternVideoVideoProcessor(
        num_frames=config.num_frames,
        sampler="uniformerv2",
        size={"shortest_edge": config.image_size},
        resize_method="torch_bilinear",
        resize_rounding="floor",
        crop_size={"height": config.image_size, "width": config.image_size},
        crop_rounding="ceil",
        channel_order="bgr" if is_something else "rgb",
        image_mean=[0.45] * 3,
        image_std=[0.225] * 3,
    )
