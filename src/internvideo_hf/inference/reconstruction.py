"""A picture of what a masked autoencoder fills in."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from transformers import AutoConfig, AutoVideoProcessor

from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import InternVideoMAEForPreTraining
from internvideo_hf.utils.names import lookup
from internvideo_hf.video import MASKS

ROWS = ("original", "masked", "reconstructed")
GAP = 2  # pixels between pictures


def reconstruct(
    video: Any, model: str, mask: str = "tube", mask_ratio: float = 0.9, columns: int = 8, seed: int = 0
) -> Image.Image:
    """Draw frames of a video as they are, as the encoder sees them, and as the decoder completes them, row by row.

    Args:
        video: whatever `VideoReader` reads.
        model: folder or Hub name of a pretrained VideoMAE.
        mask: a name in `internvideo_hf.video.MASKS`.
        mask_ratio: share of the cubes to hide, 0-1.
        columns: frames to draw, evenly spread over the clip.
        seed: of the mask.

    Raises:
        VideoDecodeError: if the video cannot be read.
        ValueError: if the model has no decoder, or an option has no meaning.
    """
    draw_mask = lookup(MASKS, mask, "mask")
    architecture = (AutoConfig.from_pretrained(model).architectures or ["?"])[0]
    if architecture != InternVideoMAEForPreTraining.__name__:
        raise ValueError(
            f"{model} holds a {architecture}, which has no decoder to reconstruct with. Convert a pretrained VideoMAE."
        )
    autoencoder = InternVideoMAEForPreTraining.from_pretrained(model).eval()
    pixels = AutoVideoProcessor.from_pretrained(model)(video, return_tensors="pt")["pixel_values_videos"][:1]
    config = autoencoder.config
    grid = (
        pixels.shape[1] // config.tubelet_size,
        pixels.shape[3] // config.patch_size,
        pixels.shape[4] // config.patch_size,
    )
    hidden = torch.as_tensor(draw_mask(grid, mask_ratio, generator=np.random.default_rng(seed)))[None]
    pictures = autoencoder.reconstruct(pixels, hidden)
    frames = np.linspace(0, pixels.shape[1] - 1, min(columns, pixels.shape[1])).round().astype(int)
    rows = torch.stack([pictures[row][0, frames] for row in ROWS])
    padded = torch.nn.functional.pad(rows, (GAP, GAP, GAP, GAP), value=1.0)
    sheet = rearrange(padded, "row frame c h w -> (row h) (frame w) c")
    return Image.fromarray((sheet * 255).round().byte().numpy())
