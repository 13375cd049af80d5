"""Pictures of the reconstructions of masked autoencoders."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from transformers import AutoConfig, AutoModelForPreTraining, AutoVideoProcessor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model
from internvideo_hf.utils.names import lookup, with_article
from internvideo_hf.utils.pictures import FAINT, FONT_SIZE, INK, LINE, PAPER, fitted
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video import MASKS, VideoReader
from internvideo_hf.video.sources import is_url

ROWS = ("original", "masked", "reconstructed")
GAP = 2  # pixels around each picture
LEFT, TOP = 104, LINE + 8  # pixels left of the pictures, for the names of rows; above them, for the times


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

    The rows are labeled, the columns with the time in seconds (the frame number, from 0, where times are unknown).

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
    features = load_pretrained(AutoVideoProcessor, model)(video, return_tensors="pt", return_metadata=True)
    pixels = features["pixel_values_videos"][:1]
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
    grid_of_pictures = rearrange(padded.cpu(), "row frame c h w -> (row h) (frame w) c")
    return _with_words(
        Image.fromarray((grid_of_pictures * 255).round().byte().numpy()),
        [("original",), ("masked", f"{hidden.float().mean():.0%} hidden"), ("reconstructed",)],
        _times(video, features["video_metadata"][0], frames),
    )


def _times(video: Any, metadata: Any, frames: np.ndarray) -> list[str]:
    """Return the time of each frame of a clip in its video, for display."""
    indices = np.asarray(metadata.frames_indices)[frames]
    times = None if metadata.fps is None else np.arange(metadata.total_num_frames) / metadata.fps
    if isinstance(video, (str, os.PathLike)) and not is_url(video):  # uneven frame rates
        with VideoReader(video) as reader:
            times = times if reader.timeline is None else reader.timeline
    if times is None:
        return [f"frame {index}" for index in indices]
    return [f"{times[index]:.2f} s" for index in indices]


def _with_words(pictures: Image.Image, rows: Sequence[Sequence[str]], columns: Sequence[str]) -> Image.Image:
    """Write lines of text left of each row of a grid of pictures, and a line above each column."""
    sheet = Image.new("RGB", (LEFT + pictures.width, TOP + pictures.height), PAPER)
    sheet.paste(pictures, (LEFT, TOP))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    height, width = pictures.height // len(rows), pictures.width // len(columns)
    for row, lines in enumerate(rows):
        middle = TOP + row * height + height // 2
        for line, text in enumerate(lines):
            top = middle - len(lines) * LINE // 2 + line * LINE
            draw.text((LEFT - GAP * 3, top), text, FAINT if line else INK, font, anchor="ra")
    for column, text in enumerate(columns):
        left = LEFT + column * width + width // 2
        draw.text((left, TOP - LINE), fitted(text, font, width - 2 * GAP), INK, font, anchor="ma")
    return sheet


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
