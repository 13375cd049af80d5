"""A tiny classifier of every family, as folders."""

from pathlib import Path

import torch
from models.internvideo.test_modeling_internvideo import LABELS, MAE, UNIFORMERV2
from models.internvideo.test_modeling_internvideo import tiny_config as fused_config
from models.model_checks import move_from_start
from models.uniformer.test_modeling_uniformer import tiny_config as uniformer_config
from models.viclip.test_modeling_viclip import FRAMES
from models.viclip.test_modeling_viclip import tiny_config as viclip_config

from internvideo_hf import (
    InternVideoForVideoClassification,
    InternVideoFusedVideoProcessor,
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
    UniFormerForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    ViCLIPForVideoClassification,
)

FAMILIES = ("internvideo_mae", "uniformer", "uniformerv2", "viclip", "internvideo")


def processor(side: int, num_frames: int) -> InternVideoVideoProcessor:
    size = {"height": side, "width": side}
    return InternVideoVideoProcessor(size=size, crop_size=size, num_frames=num_frames, sampler="uniformerv2")


def write_classifiers(folder: Path) -> Path:
    """Write a classifier of each family with its processor, `folder / family`; the UniFormerV2s have local blocks."""
    torch.manual_seed(0)
    fused = fused_config(uniformerv2_config=UNIFORMERV2)
    made = {
        "internvideo_mae": (
            InternVideoMAEForVideoClassification(InternVideoMAEConfig(**MAE, id2label=LABELS)),
            processor(32, 4),
        ),
        "uniformer": (
            UniFormerForVideoClassification(uniformer_config(num_labels=len(LABELS), id2label=LABELS)),
            processor(32, 4),
        ),
        "uniformerv2": (
            UniFormerV2ForVideoClassification(UniFormerV2Config(**UNIFORMERV2, id2label=LABELS)),
            processor(28, 3),
        ),
        "viclip": (ViCLIPForVideoClassification(viclip_config(id2label=LABELS)), processor(32, FRAMES)),
        "internvideo": (
            InternVideoForVideoClassification(fused),
            InternVideoFusedVideoProcessor(processor(32, 4), processor(28, 3)),
        ),
    }
    for family, (model, pixels) in made.items():
        move_from_start(model).save_pretrained(folder / family)
        pixels.save_pretrained(folder / family)
    return folder
