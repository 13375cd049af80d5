"""Processors of the released InternVideo-MM models."""

from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor


def build_processor(config: InternVideoMMConfig) -> InternVideoProcessor:
    """The processor of the released evaluation, at the model's own frame count and size.

    Frames are resized to a short side of 8/7 of the crop, as 256 is of 224.
    """
    size = config.vision_config.image_size
    return InternVideoProcessor(
        InternVideoVideoProcessor(
            num_frames=config.vision_config.num_frames,
            size={"shortest_edge": size * 256 // 224},
            crop_size={"height": size, "width": size},
        ),
        build_clip_tokenizer(config.text_config.max_position_embeddings),
    )
