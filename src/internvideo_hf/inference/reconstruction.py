"""Pictures of the reconstructions of masked autoencoders."""

import os
from collections.abc import Sequence
from functools import partial
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


class Reconstructor:
    """Draws videos' frames in three rows: original, masked, and reconstructed by the decoder.

    The rows are labeled, the columns with the time in seconds (the frame number, from 0, where times are unknown).

    Args:
        model: folder or Hub name of a pretrained masked autoencoder.
        mask: a name in `internvideo_hf.video.MASKS`.
        mask_ratio: fraction of hidden tubelets, 0-1.
        columns: number of frames to draw, evenly spaced in the clip.
        seed: of the mask, the same for every video.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of the model, such as "float16"; as saved if None.

    Raises:
        ValueError: if the model has no decoder, or an option is invalid.
    """

    def __init__(
        self,
        model: str,
        mask: str = "tube",
        mask_ratio: float = 0.9,
        columns: int = 8,
        seed: int = 0,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ):
        self._make_mask = partial(lookup(MASKS, mask, "mask"), mask_ratio=mask_ratio)
        self._columns, self._seed = columns, seed
        model = resolve_model(model)
        self._autoencoder = _load_autoencoder(model, device, dtype)
        self._processor = load_pretrained(AutoVideoProcessor, model)

    def read(self, video: Any) -> tuple[torch.Tensor, list[str]]:
        """Return the first clip of a video, `(frames, channels, height, width)`, and the times of its columns.

        Args:
            video: whatever `VideoReader` reads.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        features = self._processor(video, return_tensors="pt", return_metadata=True)
        pixels: torch.Tensor = features["pixel_values_videos"][0]
        return pixels, _times(video, features["video_metadata"][0], self._drawn(len(pixels)))

    def draw(self, clips: Sequence[tuple[torch.Tensor, list[str]]]) -> list[Image.Image]:
        """Draw clips, those of one shape in one forward pass.

        Args:
            clips: from `read`.
        """
        drawn: dict[int, Image.Image] = {}
        for shape in dict.fromkeys(pixels.shape for pixels, _ in clips):
            places = [place for place, (pixels, _) in enumerate(clips) if pixels.shape == shape]
            pictures, hidden = self._reconstruct(torch.stack([clips[place][0] for place in places]))
            masked = ("masked", f"{hidden.float().mean():.0%} hidden")
            for row, place in enumerate(places):
                grid = torch.stack([pictures[name][row, self._drawn(shape[0])] for name in ROWS])
                drawn[place] = _with_words(_joined(grid), [("original",), masked, ("reconstructed",)], clips[place][1])
        return [drawn[place] for place in range(len(clips))]

    def _drawn(self, frames: int) -> np.ndarray:
        return np.linspace(0, frames - 1, min(self._columns, frames)).round().astype(int)

    def _reconstruct(self, pixels: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        config, (_, frames, _, height, width) = self._autoencoder.config, pixels.shape
        grid = frames // config.tubelet_size, height // config.patch_size, width // config.patch_size
        hidden = torch.as_tensor(self._make_mask(grid, generator=np.random.default_rng(self._seed)))[None]
        model = self._autoencoder
        inputs = pixels.to(model.device, model.dtype), hidden.expand(len(pixels), -1).to(model.device)
        return model.reconstruct(*inputs), hidden  # type: ignore[operator]  # a method of masked autoencoders


def _joined(grid: torch.Tensor) -> Image.Image:
    """Return pictures, `(rows, columns, channels, height, width)` in [0, 1], as one, with gaps between them."""
    padded = torch.nn.functional.pad(grid.float(), (GAP, GAP, GAP, GAP), value=1.0)
    sheet = rearrange(padded.cpu(), "row frame c h w -> (row h) (frame w) c")
    return Image.fromarray((sheet * 255).round().byte().numpy())


def reconstruct(
    video: Any,
    model: str,
    mask: str = "tube",
    mask_ratio: float = 0.9,
    columns: int = 8,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> Image.Image:
    """Draw one video; see `Reconstructor`, which draws several.

    Args:
        video: whatever `VideoReader` reads.
        model: folder or Hub name of a pretrained masked autoencoder.
        mask: a name in `internvideo_hf.video.MASKS`.
        mask_ratio: fraction of hidden tubelets, 0-1.
        columns: number of frames to draw, evenly spaced in the clip.
        seed: of the mask.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of the model; as saved if None.

    Raises:
        VideoDecodeError: if the video cannot be read.
        ValueError: if the model has no decoder, or an option is invalid.
    """
    reconstructor = Reconstructor(model, mask, mask_ratio, columns, seed, device, dtype)
    return reconstructor.draw([reconstructor.read(video)])[0]


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


def _load_autoencoder(model: str, device: str | torch.device | None, dtype: str | None) -> PreTrainedModel:
    architecture = (load_pretrained(AutoConfig, model).architectures or ["?"])[0]
    if architecture.endswith("ForPreTraining"):
        autoencoder = load_model(AutoModelForPreTraining, model, device, dtype)
        if hasattr(autoencoder, "reconstruct"):
            return autoencoder
    raise ValueError(
        f"{model} holds {with_article(architecture)}, which has no decoder to reconstruct with. Convert a "
        "pretrained VideoMAE."
    )
