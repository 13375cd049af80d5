"""Processors of the released ViCLIP models."""

from collections.abc import Callable
from typing import Any

from transformers import CLIPTextConfig

from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig, ViCLIPVisionConfig
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def training_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """Build the video processor of the training code's evaluation, to which the published scores belong.

    It takes the middle frame of every eighth of a video and resizes it to a square, bicubically and without antialias,
    which torchvision 0.15.2, the version that the code pins, left out on tensors.
    """
    return _video_processor(config, sampler="viclip_middle", resize_method="torchvision_v1_bicubic")


def antialiased_training_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """Build the video processor of the training code's evaluation under torchvision 0.17 or newer: with antialias."""
    return _video_processor(config, sampler="viclip_middle", resize_method="torchvision_bicubic")


def demo_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """Build the video processor of the inference package's `frames2tensor`.

    It takes every `length // 8`-th frame, resizes it to a square with OpenCV's bilinear filter, and reads arrays as
    BGR.
    """
    return _video_processor(config, sampler="viclip_stride", resize_method="cv2_linear", input_channel_order="bgr")


PROCESSORS: dict[str, Callable[[ViCLIPConfig], InternVideoVideoProcessor]] = {
    "training": training_pixels,
    "demo": demo_pixels,
    "training_antialias": antialiased_training_pixels,
}


def _video_processor(config: ViCLIPConfig, **options: Any) -> InternVideoVideoProcessor:
    vision: ViCLIPVisionConfig = config.vision_config  # type: ignore[assignment]  # a dict only before __init__
    size = vision.image_size
    return InternVideoVideoProcessor(
        num_frames=vision.num_frames,
        size={"height": size, "width": size},
        do_center_crop=False,
        # Not CLIP's statistics, although the weights come from CLIP.
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        **options,
    )


def build_processor(config: ViCLIPConfig, name: str = "training") -> InternVideoProcessor:
    """Build a processor of video and text, at the model's number of frames, size and text length.

    Args:
        config: of the model.
        name: of the video processor, in `PROCESSORS`.
    """
    text: CLIPTextConfig = config.text_config  # type: ignore[assignment]  # a dict only before __init__
    tokenizer = build_clip_tokenizer(text.max_position_embeddings)
    return InternVideoProcessor(PROCESSORS[name](config), tokenizer)
