"""Processors of the released InternVideo-MM models."""

from transformers import CLIPTextConfig

from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor


def build_processor(config: InternVideoMMConfig) -> InternVideoProcessor:
    """Build the processor of the released evaluation, at the model's number of frames and size.

    Frames are resized to a short side of 8/7 of the crop, as 256 to 224.
    """
    vision: UniFormerV2Config = config.vision_config  # type: ignore[assignment]  # a dict only before __init__
    text: CLIPTextConfig = config.text_config  # type: ignore[assignment]
    size = vision.image_size
    return InternVideoProcessor(
        InternVideoVideoProcessor(
            num_frames=vision.num_frames,
            size={"shortest_edge": size * 256 // 224},
            crop_size={"height": size, "width": size},
        ),
        build_clip_tokenizer(text.max_position_embeddings),
    )
