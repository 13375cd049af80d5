"""Small classifiers with random weights, for the tests of several tasks."""

from pathlib import Path

import torch
from models.model_checks import move_from_start

from internvideo_hf import InternVideoVideoProcessor, UniFormerV2Config, UniFormerV2ForVideoClassification


def write_classifier(
    folder: Path,
    *,
    kind: type = UniFormerV2ForVideoClassification,
    seed: int = 0,
    views: tuple[int, int] = (1, 1),
    **settings,
) -> Path:
    config = UniFormerV2Config(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=24,
        image_size=32,
        patch_size=16,
        num_frames=3,
        global_layers=[0, 1],
        **settings,
    )
    torch.manual_seed(seed)
    move_from_start(kind(config), seed=seed).save_pretrained(folder)
    pixels = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 3}
    clips, crops = views
    InternVideoVideoProcessor(**pixels, sampler="uniformerv2", num_clips=clips, num_crops=crops).save_pretrained(
        folder
    )
    return folder


def logits_of(folder: Path, video: Path) -> torch.Tensor:
    """Return the logits of each view of a video, float64, `(views, classes)`, by the model and its processor alone."""
    pixels = InternVideoVideoProcessor.from_pretrained(folder)([str(video)], return_tensors="pt")
    with torch.no_grad():
        model = UniFormerV2ForVideoClassification.from_pretrained(folder).eval()
        return model(pixels["pixel_values_videos"]).logits.double()
