"""A model with a frozen part, and a processor that some videos kill, importable by spawned processes."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from video.clips import write_video

from internvideo_hf.data.samples import SampleSettings

KILLS, HANGS = 40, 48  # width of the videos that kill and hang their decoder


class Means(torch.nn.Module):
    """A model of another family: the frozen part takes the mean of a clip, twelve times, and counts the batch.

    Args:
        weight: of the frozen part.
        mark: file that tells that a worker was killed; the first batch kills it. None kills none.
    """

    frozen_argument = "means"
    encoders_frozen = True
    device = torch.device("cpu")

    def __init__(self, weight: float = 1.0, mark: Path | None = None):
        super().__init__()
        self.weight, self.mark = weight, mark

    def frozen_state(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.full((1,), self.weight)}

    def frozen_facts(self) -> list:
        return ["mean"]

    def frozen_forward(self, pixel_values_videos) -> dict[str, torch.Tensor]:
        if self.mark is not None and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        mean = pixel_values_videos.mean(dim=(1, 2, 3, 4))
        count = torch.full_like(mean, len(mean))
        return {f"parts.{number}": mean * number for number in range(12)} | {"total": mean, "at_once": count}


def load(device: str | None, weight: float = 1.0, mark: Path | None = None) -> Means:
    """Return the model in a worker."""
    return Means(weight, mark)


class Poisoned:
    """A processor that videos of some widths kill or hang."""

    def __call__(self, frames: Any, **options: Any) -> dict[str, list[torch.Tensor]]:
        if frames.shape[2] == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        while frames.shape[2] == HANGS:
            time.sleep(0.1)
        return {"pixel_values_videos": [torch.from_numpy(frames).permute(0, 3, 1, 2)[..., :24, :24] / 255]}

    def to_dict(self) -> dict[str, str]:
        """Return what stands for it in keys."""
        return {"name": "poisoned"}


def settings() -> SampleSettings:
    """Return the settings of clips that the processor makes."""
    return SampleSettings(4, "videomae_dense_train", "processor", {"sampling_rate": 2}, {"processor": Poisoned()})


def rows(folder: Path, widths: list[int]) -> list[dict[str, Any]]:
    """Write videos of some widths, and return their rows; a width of 0 is no video."""
    made = []
    for number, width in enumerate(widths):
        path = folder / f"{number}.mp4"
        if width:
            write_video(path, 20 + number, size=(24, width))
        else:
            path.write_bytes(b"no video")
        made.append({"video": str(path), "label": number})
    return made
