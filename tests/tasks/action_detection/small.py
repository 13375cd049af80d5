"""Tiny random detectors of people and of actions, as folders."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForVideoActionDetection, InternVideoVideoProcessor

COCO = {0: "N/A", 1: "Person", 2: "bicycle"}


def write_detector(folder: Path, classes: dict[int, str] = COCO) -> Path:
    """Write a random YOLOS of 6 boxes."""
    torch.manual_seed(3)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 48],
        patch_size=16, num_detection_tokens=6, id2label=classes, label2id={name: i for i, name in classes.items()},
        use_mid_position_embeddings=False, initializer_range=1.0,
    )  # fmt: skip
    model = YolosForObjectDetection(config)
    with torch.no_grad():
        model.vit.embeddings.detection_tokens.normal_()
        for head in (model.class_labels_classifier, model.bbox_predictor):
            for layer in head.layers:
                layer.weight *= 0.3
        model.class_labels_classifier.layers[-1].bias[1] = 2.0  # most boxes are of people
    model.save_pretrained(folder)
    YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(folder)
    return folder


def write_rt_detr(folder: Path) -> Path:
    """Write a random RT-DETR of 8 boxes, whose only class is people."""
    torch.manual_seed(4)
    config = RTDetrConfig(
        backbone_config={"model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]},
        encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8],
        encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16,
        num_queries=8, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=1,
        decoder_attention_heads=2, num_denoising=0, id2label={0: "person"}, label2id={"person": 0},
    )  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


class Echo(nn.Module):
    """An action detector whose probabilities tell what it was given: three actions of the mean of the box's pixels.

    Attributes:
        boxes: of each call, those of each clip, without padding.
        shapes: of the pixels of each call.
    """

    def __init__(self):
        super().__init__()
        self.config = InternVideoMAEConfig(patch_size=16, id2label={0: "red", 1: "green", 2: "blue"})
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.boxes: list[list[torch.Tensor]] = []
        self.masks: list[torch.Tensor] = []
        self.shapes: list[tuple[int, ...]] = []
        self.pixels: list[torch.Tensor] = []

    def forward(self, pixel_values_videos, boxes, box_mask, *, pixel_mask):
        self.boxes.append([own[mask] for own, mask in zip(boxes, box_mask, strict=True)])
        self.shapes.append(tuple(pixel_values_videos.shape))
        self.masks.append(pixel_mask)
        self.pixels.append(pixel_values_videos)
        means = torch.zeros(*boxes.shape[:2], 3)
        for clip, own in enumerate(boxes.round().long().tolist()):
            for row, (left, top, right, bottom) in enumerate(own):
                inside = pixel_values_videos[clip, :, :, top : bottom + 1, left : right + 1]
                means[clip, row] = inside.mean(dim=(0, 2, 3))
        return SimpleNamespace(logits=torch.logit(means.clamp(0.001, 0.999)))


def echo_processor(**changes) -> InternVideoVideoProcessor:
    """Return a processor of 4 frames, 2 apart, that gives pixels 0-1 at the video's own size of 48 rows."""
    options = {
        "num_frames": 4, "sampler": "videomae_dense", "sampler_kwargs": {"sampling_rate": 2},
        "size": {"shortest_edge": 48}, "resize_method": "cv2_linear", "do_normalize": False,
    }  # fmt: skip
    return InternVideoVideoProcessor(**options | changes)


def write_model(folder: Path, **changes) -> Path:
    """Write a random action detector of 4 frames, 2 apart."""
    torch.manual_seed(5)
    classes = {0: "stand", 1: "sit", 2: "talk to (e.g., self, a person, a group)", 3: "watch (a person)"}
    config = InternVideoMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        num_frames=4, use_mean_pooling=False, id2label=classes, **changes,
    )  # fmt: skip
    model = InternVideoMAEForVideoActionDetection(config)
    with torch.no_grad():
        model.classifier.weight.normal_()
    model.save_pretrained(folder)
    echo_processor(do_normalize=True, size={"shortest_edge": 32}).save_pretrained(folder)
    return folder
