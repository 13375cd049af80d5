"""A random head on features and words of demo-mm, and a drawn video to ask it about."""

from pathlib import Path

import torch

from internvideo_hf import FeatureExtractor, VSLNetConfig, VSLNetForTemporalGrounding
from internvideo_hf.demo import queried
from internvideo_hf.inference.texts import TextEncoder

WINDOW, STRIDE, FPS = 8, 2, 4


def head_config(**changes) -> VSLNetConfig:
    """Return the configuration of a small head."""
    extractor = FeatureExtractor("demo-mm", WINDOW, STRIDE, device="cpu", fps=FPS)
    features = {"encoder": "demo-mm", "window": WINDOW, "stride": STRIDE, "fps": FPS}
    features["revision"] = extractor.settings.revision
    text = {"text_encoder": "demo-mm", "text_revision": TextEncoder("demo-mm", device="cpu").revision}
    sizes = {"video_size": 128, "text_size": 96, "hidden_size": 16, "num_attention_heads": 2, "max_positions": 16}
    return VSLNetConfig(**{**sizes, "num_conv_layers": 1, "features": features, **text, **changes})


def write_head(folder: Path, **changes) -> Path:
    """Write a random head."""
    torch.manual_seed(0)
    VSLNetForTemporalGrounding(head_config(**changes)).save_pretrained(folder)
    return folder


def write_drawn(path: Path) -> Path:
    """Write a video of 6 seconds, 8 frames each, of one shape."""
    turn = queried.Turn(16, 32, "moon", "red", "moves up")
    queried.write_video(queried.Script("validation", 0, 48, (turn,), "plain"), path)
    return path
