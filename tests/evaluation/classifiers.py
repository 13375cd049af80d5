"""Two small classifiers of the same classes that differ in frames, size, rule and statistics; clips to score."""

from pathlib import Path

import numpy as np
import torch
from models.model_checks import move_from_start
from video.clips import write_video

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)

CLASSES = ["runs", "jumps", "sits"]
KINDS = (InternVideoMAEForVideoClassification, UniFormerV2ForVideoClassification)


def write_classifiers(folder: Path) -> tuple[Path, Path]:
    """Save both, and return their folders."""
    labels = dict(enumerate(CLASSES))
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16, "id2label": labels}
    mae = InternVideoMAEConfig(**sizes, hidden_size=16, num_frames=4)
    uniformerv2 = UniFormerV2Config(**sizes, hidden_size=24, global_layers=[0, 1], num_frames=3)
    torch.manual_seed(0)
    shared = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    for number, (model, options) in enumerate(
        [
            (InternVideoMAEForVideoClassification(mae), {"sampler": "videomae_dense", "num_frames": 4}),
            (UniFormerV2ForVideoClassification(uniformerv2), {"sampler": "uniformerv2", "num_frames": 3}),
        ]
    ):
        place = folder / model.config.model_type
        move_from_start(model, seed=number).save_pretrained(place)
        InternVideoVideoProcessor(**shared, **options, image_mean=[0.4 + number / 10] * 3).save_pretrained(place)
    return folder / "internvideo_mae", folder / "uniformerv2"


def write_clips(root: Path) -> Path:
    """Write five clips, a list to score and a list to fit weights on, and return their folder."""
    for number in range(5):
        write_video(root / f"clip{number}.mp4", num_frames=20 + 10 * number)
    (root / "val.csv").write_text("".join(f"clip{number}.mp4,{CLASSES[number % 3]}\n" for number in range(3)))
    (root / "fit.csv").write_text("clip3.mp4,2\nclip4.mp4,1\n")
    return root


@torch.no_grad()
def by_hand(folder: Path, kind: type, video: Path | np.ndarray, clips: int = 1) -> np.ndarray:
    """Return the mean of the probabilities of the views, `(classes,)`."""
    video = str(video) if isinstance(video, Path) else video
    pixels = InternVideoVideoProcessor.from_pretrained(folder)([video], num_clips=clips, return_tensors="pt")
    logits = kind.from_pretrained(folder).eval()(pixels["pixel_values_videos"]).logits
    return logits.double().softmax(dim=-1).mean(dim=0).numpy()
