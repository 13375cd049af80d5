"""VideoMAE: the encoder, masked pretraining and the classifier, and all three against transformers' own."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange
from huggingface_hub.errors import StrictDataclassClassValidationError
from models.common import ModelChecks, Tower, assert_same, draw, gradients, move_from_start, present
from torch import nn
from torch.nn.functional import cross_entropy, linear, softmax
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForPreTraining, InternVideoMAEForVideoClassification
from internvideo_hf.conversion.transformers_videomae import export
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAELayer,
    InternVideoMAEModel,
    InternVideoMAEPositions,
    sine_table,
)

MANIFESTS = Path(__file__).parents[2] / "manifests"
FRAMES, SIDE, PATCH, TUBELET = 4, 32, 8, 2
GRID = (FRAMES // TUBELET, SIDE // PATCH, SIDE // PATCH)
CUBES, WIDTH, LAYERS, HEADS = math.prod(GRID), 24, 3, 4
DECODER_WIDTH, PIXELS = 20, TUBELET * PATCH * PATCH * 3
LABELS, HIDDEN = 5, 24
VISIBLE = CUBES - HIDDEN


def tiny_config(**changes) -> InternVideoMAEConfig:
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 40,
        "image_size": SIDE,
        "num_frames": FRAMES,
        "patch_size": PATCH,
        "decoder_hidden_size": DECODER_WIDTH,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 28,
        "num_labels": LABELS,
    }
    return InternVideoMAEConfig(**(sizes | changes))


def moved(model_class: type, **changes):
    torch.manual_seed(0)
    return move_from_start(model_class(tiny_config(**changes)))


def encoder(**changes) -> InternVideoMAEModel:
    return moved(InternVideoMAEModel, **changes)


def pretraining(**changes) -> InternVideoMAEForPreTraining:
    return moved(InternVideoMAEForPreTraining, use_mean_pooling=False, **changes)


def classifier(**changes) -> InternVideoMAEForVideoClassification:
    return moved(InternVideoMAEForVideoClassification, **changes)


def clips(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return draw(batch, FRAMES, 3, SIDE, SIDE, seed=seed)


def mask_of(hidden: int = HIDDEN, batch: int = 2, cubes: int = CUBES) -> torch.Tensor:
    """Another mask in each row, with as many cubes hidden in all of them."""
    ranks = torch.rand(batch, cubes, generator=torch.Generator().manual_seed(1)).argsort().argsort()
    return ranks < hidden


def cut_by_hand(video: torch.Tensor) -> torch.Tensor:
    """Cubes in their order; inside a cube frame by frame, row by row, the channel fastest."""
    cubes = [
        video[
            :,
            t * TUBELET : (t + 1) * TUBELET,
            :,
            row * PATCH : (row + 1) * PATCH,
            column * PATCH : (column + 1) * PATCH,
        ]
        .movedim(2, -1)
        .flatten(1)
        for t in range(video.shape[1] // TUBELET)
        for row in range(video.shape[3] // PATCH)
        for column in range(video.shape[4] // PATCH)
    ]
    return torch.stack(cubes, dim=1)


def as_pixels(video: torch.Tensor) -> torch.Tensor:
    """Undo ImageNet's normalisation."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return video * std[:, None, None] + mean[:, None, None]


# The shared checks

FIELDS_READ_ELSEWHERE = {
    "image_size": "converters hand it to the processor; the position table is made for position_image_size",
    "num_frames": "likewise",
    **dict.fromkeys(
        ("decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads")
        + ("decoder_intermediate_size", "norm_pix_loss", "image_mean", "image_std"),
        "pretraining reads it",
    ),
    **dict.fromkeys(("classifier_dropout", "num_segments", "head_init_scale"), "the classifier reads it"),
}


class TestInternVideoMAEModel(ModelChecks):
    model_class = InternVideoMAEModel
    input_embeddings = "embeddings"
    frame_counts = ()  # a traced graph holds the position table of one frame count; other counts have tests below
    fields_read_elsewhere = FIELDS_READ_ELSEWHERE

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": clips()}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]


class TestInternVideoMAEModelWithLearnedPositions(TestInternVideoMAEModel):
    """And with everything else that no released model has: layer scale, no biases, the norm before the pooling."""

    def config(self):
        return tiny_config(
            position_embedding_type="learned", layer_scale_init_value=0.1, qkv_bias=False, use_mean_pooling=False
        )


class TestInternVideoMAEForPreTraining(ModelChecks):
    model_class = InternVideoMAEForPreTraining
    auto_class = AutoModelForPreTraining
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {
        **{name: reason for name, reason in FIELDS_READ_ELSEWHERE.items() if reason != "pretraining reads it"},
    }
    loss_over = "samples"

    def config(self):
        return tiny_config(use_mean_pooling=False)

    def inputs(self):
        return self.with_pixels(clips())

    def with_pixels(self, pixels):
        grid = pixels.shape[1] // TUBELET, pixels.shape[-2] // PATCH, pixels.shape[-1] // PATCH
        cubes = math.prod(grid)
        return {"pixel_values_videos": pixels, "bool_masked_pos": mask_of(cubes * 3 // 4, len(pixels), cubes)}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, VISIBLE, WIDTH), (2, HEADS, VISIBLE, VISIBLE))]


class TestInternVideoMAEForVideoClassification(ModelChecks):
    model_class = InternVideoMAEForVideoClassification
    auto_class = AutoModelForVideoClassification
    input_embeddings = "internvideo_mae.embeddings"
    frame_counts = ()
    fields_read_elsewhere = {
        **{name: reason for name, reason in FIELDS_READ_ELSEWHERE.items() if reason != "the classifier reads it"},
    }
    loss_over = "samples"

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": clips(), "labels": torch.tensor([1, 4])}

    def towers(self, outputs):
        return [Tower(outputs, LAYERS, (2, CUBES, WIDTH), (2, HEADS, CUBES, CUBES))]
