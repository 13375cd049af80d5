"""Processors of the released ViCLIP models."""

from collections.abc import Callable
from typing import Any

from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def training_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """The evaluation of the training code, which the published scores are of: the middle frame of every eighth of a
    video, the whole frame squeezed to a square, bicubically."""
    return _video_processor(config, sampler="viclip_middle", resize_method="torchvision_bicubic")


def demo_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """The inference package's `frames2tensor`: every `length // 8`-th frame from the first, squeezed by OpenCV's
    bilinear. Arrays of frames are taken as BGR, which OpenCV reads; files are read in the right order anyway."""
    return _video_processor(config, sampler="viclip_stride", resize_method="cv2_linear", input_channel_order="bgr")


PROCESSORS: dict[str, Callable[[ViCLIPConfig], InternVideoVideoProcessor]] = {
    "training": training_pixels,
    "demo": demo_pixels,
}


def _video_processor(config: ViCLIPConfig, **options: Any) -> InternVideoVideoProcessor:
    size = config.vision_config.image_size
    return InternVideoVideoProcessor(
        num_frames=config.vision_config.num_frames,
        size={"height": size, "width": size},
        do_center_crop=False,
        # Not CLIP's statistics, although the weights come from CLIP.
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        **options,
    )


def build_processor(config: ViCLIPConfig, name: str = "training") -> InternVideoProcessor:
    """Build a processor of video and text, at the model's own frame count, size and text length.

    Args:
        name: whose pixels it makes, a name in `PROCESSORS`.
    """
    tokenizer = build_clip_tokenizer(config.text_config.max_position_embeddings)
    return InternVideoProcessor(PROCESSORS[name](config), tokenizer)
