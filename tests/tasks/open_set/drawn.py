"""A small classifier of three classes, and videos of them and of others."""

from pathlib import Path

import torch
from models.model_checks import move_from_start
from video.clips import write_video

from internvideo_hf import (
    InternVideoVideoProcessor,
    UniFormerV2Config,
    UniFormerV2ForOpenSetClassification,
    UniFormerV2ForVideoClassification,
)

CLASSES = ["runs", "jumps", "sits"]
HERE = {"workers": 0, "device": "cpu", "quiet": True}


def write_classifier(folder: Path, *, is_evidential: bool = False, seed: int = 0, **settings) -> Path:
    config = UniFormerV2Config(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=24,
        image_size=32,
        patch_size=16,
        num_frames=3,
        global_layers=[0, 1],
        global_dropout=0.0,
        classifier_dropout=0.0,
        id2label=dict(enumerate(CLASSES)),
        **settings,
    )
    torch.manual_seed(seed)
    kind = UniFormerV2ForOpenSetClassification if is_evidential else UniFormerV2ForVideoClassification
    move_from_start(kind(config), seed=seed).save_pretrained(folder)
    pixels = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 3}
    InternVideoVideoProcessor(**pixels, sampler="uniformerv2", num_clips=1, num_crops=1).save_pretrained(folder)
    return folder


def write_lists(root: Path) -> Path:
    """Write val.csv and test.csv of known videos, and unknown.csv."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        write_video(root / f"clip{number:02d}.mp4", num_frames=8 + number)
    lines = [f"clip{number:02d}.mp4,{CLASSES[number % 3]}\n" for number in range(9)]
    (root / "val.csv").write_text("".join(lines[:6]))
    (root / "test.csv").write_text("".join(lines[6:]))
    (root / "unknown.csv").write_text("clip09.mp4,swims\nclip10.mp4,flies\nclip11.mp4,swims\n")
    return root
