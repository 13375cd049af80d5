"""Pictures of the reconstructions of masked autoencoders."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from transformers import AutoConfig, AutoModelForPreTraining, AutoVideoProcessor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model
from internvideo_hf.utils.names import lookup, with_article
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video import MASKS

ROWS = ("original", "masked", "reconstructed")
GAP = 2  # pixels between pictures


def reconstruct(
    video: Any,
    model: str,
    mask: str = "tube",
    mask_ratio: float = 0.9,
    columns: int = 8,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Image.Image:
    """Draw a video's frames in three rows: original, masked, and reconstructed by the decoder.

    Args:
        video: whatever `VideoReader` reads.
        model: folder or Hub name of a pretrained masked autoencoder.
        mask: a name in `internvideo_hf.video.MASKS`.
        mask_ratio: fraction of hidden tubelets, 0-1.
        columns: number of frames to draw, evenly spaced in the clip.
        seed: of the mask.
        device: where the model runs; the accelerator if there is one.

    Raises:
        VideoDecodeError: if the video cannot be read.
        ValueError: if the model has no decoder, or an option is invalid.
    """
    make_mask = lookup(MASKS, mask, "mask")
    model = resolve_model(model)
    autoencoder = _load_autoencoder(model, device)
    pixels = load_pretrained(AutoVideoProcessor, model)(video, return_tensors="pt")["pixel_values_videos"][:1]
    config = autoencoder.config
    grid = (
        pixels.shape[1] // config.tubelet_size,
        pixels.shape[3] // config.patch_size,
        pixels.shape[4] // config.patch_size,
    )
    hidden = torch.as_tensor(make_mask(grid, mask_ratio, generator=np.random.default_rng(seed)))[None]
    inputs = pixels.to(autoencoder.device, autoencoder.dtype), hidden.to(autoencoder.device)
    pictures = autoencoder.reconstruct(*inputs)  # type: ignore[operator]  # a method of masked autoencoders
    frames = np.linspace(0, pixels.shape[1] - 1, min(columns, pixels.shape[1])).round().astype(int)
    rows = torch.stack([pictures[row][0, frames] for row in ROWS])
    padded = torch.nn.functional.pad(rows, (GAP, GAP, GAP, GAP), value=1.0)
    sheet = rearrange(padded.cpu(), "row frame c h w -> (row h) (frame w) c")
    return Image.fromarray((sheet * 255).round().byte().numpy())


def _load_autoencoder(model: str, device: str | torch.device | None) -> PreTrainedModel:
    architecture = (load_pretrained(AutoConfig, model).architectures or ["?"])[0]
    if architecture.endswith("ForPreTraining"):
        autoencoder = load_model(AutoModelForPreTraining, model, device)
        if hasattr(autoencoder, "reconstruct"):
            return autoencoder
    raise ValueError(
        f"{model} holds {with_article(architecture)}, which has no decoder to reconstruct with. Convert a "
        "pretrained VideoMAE."
    )
