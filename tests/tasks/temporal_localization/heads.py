"""Tiny heads and encoders, as folders, and made videos."""

from pathlib import Path

import av
import torch
from video.clips import write_video

from internvideo_hf import (
    ActionFormerConfig,
    ActionFormerForTemporalLocalization,
    FeatureExtractor,
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
)

CHANNELS, CLASSES = 16, {0: "jump", 1: "run", 2: "wave"}
SIZE = {"height": 32, "width": 32}


def write_encoder(folder: Path, channels: int = CHANNELS) -> Path:
    """Write a random VideoMAE classifier of 4 frames, which is an encoder too."""
    torch.manual_seed(channels)
    config = InternVideoMAEConfig(
        hidden_size=channels, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=16, num_frames=4, id2label=CLASSES,
    )  # fmt: skip
    InternVideoMAEForVideoClassification(config).save_pretrained(folder)
    InternVideoVideoProcessor(size=SIZE, crop_size=SIZE, num_frames=4, sampler="uniformerv2").save_pretrained(folder)
    return folder


def head_config(encoder: Path | None, **changes) -> ActionFormerConfig:
    """Return the configuration of a tiny head; its features come from windows of 4 frames, 2 apart."""
    features = {"window": 4, "stride": 2}
    if encoder is not None:
        extractor = FeatureExtractor(encoder, 4, 2, device="cpu")
        features |= {"encoder": str(encoder), "revision": extractor.settings.revision}
    return ActionFormerConfig(
        **{
            "feature_size": CHANNELS, "hidden_size": 16, "num_attention_heads": 2, "num_levels": 2,
            "num_stem_layers": 1, "attention_windows": 5, "max_sequence_length": 32, "id2label": CLASSES,
            "class_prior": 0.4, "selection": {"min_score": 0.05}, "features": features, **changes,
        }
    )  # fmt: skip


def write_head(folder: Path, encoder: Path | None, **changes) -> Path:
    """Write a random head."""
    torch.manual_seed(1)
    ActionFormerForTemporalLocalization(head_config(encoder, **changes)).save_pretrained(folder)
    return folder


def write_holed(path: Path, num_frames: int = 40, first: int = 18, last: int = 20) -> Path:
    """Write a video of 30 frames a second, each a keyframe, of which frames `[first, last)` are damaged."""
    write_video(path, num_frames, codec="mjpeg")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[first:last]:
        place = content.find(bytes(packet))
        content[place : place + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    return path
