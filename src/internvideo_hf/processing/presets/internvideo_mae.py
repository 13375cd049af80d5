"""Processors of the released VideoMAE models."""

from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor


def build_processor(config: InternVideoMAEConfig) -> InternVideoVideoProcessor:
    """Build the processor of the released test: frames at a stride of 4, OpenCV's resize, the center crop."""
    return InternVideoVideoProcessor(
        num_frames=config.num_frames,
        sampler="videomae_dense",
        sampler_kwargs={"sampling_rate": 4},
        size={"shortest_edge": config.image_size},
        resize_method="cv2_linear",
        crop_size={"height": config.image_size, "width": config.image_size},
        crop_rounding="floor",
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )
