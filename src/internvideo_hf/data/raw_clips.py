"""Clips as bytes, a quarter of the size: workers send them to the process that trains, and it to the device.

There `internvideo_hf.data.collation.finish_batch` takes the last steps, normalization and mixup.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from internvideo_hf.video.augment import normalize
from internvideo_hf.video.mixup import mix_batch


@dataclass(frozen=True)
class RawClips:
    """Pixels of clips before they are normalized.

    Attributes:
        pixels: uint8, `(..., frames, 3, height, width)`.
        blank: the frames that stand for none, bool, `(..., frames)`.
        mean: of each channel, in [0, 1].
        std: of each channel.
    """

    pixels: Tensor
    blank: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """Number of axes of the pixels."""
        return self.pixels.ndim

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> "RawClips":
        return self._with(lambda tensor: tensor[index])

    def numel(self) -> int:
        """Return how many numbers the pixels are, which transformers' Trainer counts."""
        return self.pixels.numel()

    def to(self, *args: Any, **kwargs: Any) -> "RawClips":
        """Move the clips to a device, as a tensor's `to` does."""
        return self._with(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, *args: Any) -> "RawClips":
        """Return the clips in pinned memory, as a data loader asks for."""
        return self._with(lambda tensor: tensor.pin_memory(*args))

    def _with(self, change: Callable[[Tensor], Tensor]) -> "RawClips":
        return replace(self, pixels=change(self.pixels), blank=change(self.blank))

    def normalized(self) -> Tensor:
        """Return the model's input, float32, on the device of the pixels; blank frames are 0."""
        frames = self.pixels.flatten(0, -4)
        values = normalize(frames, mean=self.mean, std=self.std).view(self.pixels.shape)
        return values.masked_fill_(self.blank[..., None, None, None], 0)


@dataclass(frozen=True)
class Mixing:
    """The draws of a batch that is to be mixed.

    Attributes:
        options: of `mix_batch`.
        seeds: of its samples.
    """

    options: Mapping[str, Any]
    seeds: Sequence[int]

    def __call__(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix normalized clips and their classes; see `mix_batch`."""
        # From the samples' own seeds, so that it does not matter which worker makes the batch.
        generator = np.random.RandomState(np.random.SeedSequence(list(self.seeds)).generate_state(1)[0])
        return mix_batch(clips, labels, **self.options, generator=generator)
