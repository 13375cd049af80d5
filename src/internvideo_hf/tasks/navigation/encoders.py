"""Features of panoramas for the planner, and the frames of their videos."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d
from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

from internvideo_hf.inference.encoders import VideoEncoder
from internvideo_hf.tasks.navigation.environment import Panorama, Pictures
from internvideo_hf.utils.pretrained import load_pretrained

CLIP_FRAMES = 16


class Features(NamedTuple):
    """Features of one panorama.

    Attributes:
        video: `(views, video_size)`.
        still: `(views, still_size)`.
        depth: `(views, depth_size)`.
    """

    video: torch.Tensor
    still: torch.Tensor
    depth: torch.Tensor


class PanoramaEncoder(Protocol):
    """An encoder of panoramas, without gradients."""

    def __call__(self, panorama: Panorama, clips: Pictures) -> Features:
        """Encode a panorama.

        Args:
            panorama: what is around the agent.
            clips: what was seen last in each view, `(views, frames, height, width, 3)`.
        """


class FrameBuffer:
    """The last pictures of each view; before there are enough, the first one stands in front of them.

    Args:
        first: pictures of the first panorama, `(views, height, width, 3)`.
        frames: of a clip.
    """

    def __init__(self, first: Pictures, frames: int = CLIP_FRAMES):
        self._frames: deque[Pictures] = deque([first] * frames, maxlen=frames)

    def extend(self, pictures: Sequence[Pictures]) -> None:
        """Add the pictures of later panoramas, in their order."""
        self._frames.extend(pictures)

    def clips(self) -> Pictures:
        """Return the clip of each view, `(views, frames, height, width, 3)`."""
        return np.stack(list(self._frames), axis=1)


class PooledEncoder:
    """Means of pixels over a grid: an encoder without weights, for small worlds.

    Args:
        grid: cells in a row and in a column.
    """

    def __init__(self, grid: int = 2):
        self.grid = grid
        self.rgb_size, self.depth_size = 3 * grid**2, grid**2

    def __call__(self, panorama: Panorama, clips: Pictures) -> Features:
        """See `PanoramaEncoder`; a video is the mean of its frames."""
        still = self._pool(torch.from_numpy(panorama.pictures).movedim(-1, 1) / 127.5 - 1)
        video = self._pool(torch.from_numpy(clips.mean(axis=1, dtype=np.float32)).movedim(-1, 1) / 127.5 - 1)
        depth = self._pool(torch.from_numpy(panorama.depth)[:, None])
        return Features(video, still, depth)

    def _pool(self, pictures: torch.Tensor) -> torch.Tensor:
        return adaptive_avg_pool2d(pictures, self.grid).flatten(1)


class PretrainedEncoder:
    """The encoders of the released planner: InternVideo's VideoMAE, CLIP, and one of depth.

    The encoder of depth, DDPPO's ResNet-50, is part of habitat-baselines. Stills and videos are those of the released
    planner; their wrapping could not be compared with the original.

    Args:
        video: folder or Hub name of the encoder of videos, whose feature is the mean of its tokens, normalized.
        depth: depth of the views, `(views, height, width)` -> its features, `(views, channels, height, width)`.
        still: folder or Hub name of an image CLIP.
        device: where the encoders of pictures run; the accelerator if there is one.
        clips_at_once: clips of a panorama that are encoded together.
    """

    def __init__(
        self,
        video: str,
        depth: Callable[[torch.Tensor], torch.Tensor],
        still: str = "openai/clip-vit-base-patch32",
        device: str | torch.device | None = None,
        clips_at_once: int = 4,
    ):
        self.video, self.depth, self.clips_at_once = VideoEncoder(video, device=device), depth, clips_at_once
        self.still = load_pretrained(CLIPVisionModelWithProjection, still).eval().to(self.video.model.device)
        self.processor: Any = load_pretrained(AutoImageProcessor, still)

    @torch.no_grad()
    def __call__(self, panorama: Panorama, clips: Pictures) -> Features:
        """See `PanoramaEncoder`."""
        pixels = self.processor(images=list(panorama.pictures), return_tensors="pt")["pixel_values"]
        still = self.still(pixels.to(self.still.device, self.still.dtype)).image_embeds.float().cpu()
        pixels = torch.stack([self.video.process(clip) for clip in clips])
        video = torch.cat(
            [
                self.video.encode(pixels[first : first + self.clips_at_once])
                for first in range(0, len(pixels), self.clips_at_once)
            ]
        )
        depth = self.depth(torch.from_numpy(panorama.depth)).float().cpu()
        return Features(video, still, depth.flatten(2).mean(dim=-1))
