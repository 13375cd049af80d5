"""Training on videos and images by turns: a step of videos, then a step of images."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.samples import Sample

Index = int | tuple[int, ...]
"""A row of the videos, or some rows of the images."""


class VideosAndImages(Dataset[Sample | list[Sample]]):
    """Samples of two lists: an index is that of a video, a tuple of indices are those of images.

    Args:
        videos: the videos.
        images: the images, as videos of one frame.
    """

    def __init__(self, videos: VideoDataset, images: VideoDataset):
        self.videos = videos
        self.images = images

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """Change the draws of both; see `VideoDataset.set_epoch`."""
        self.videos.set_epoch(epoch)
        self.images.set_epoch(epoch)

    def __getitem__(self, index: Index) -> Sample | list[Sample]:
        """Make the sample of a video, or those of some images, which `VideoCollator` takes as so many samples.

        Raises:
            IndexError: if there is no such row.
            VideoDecodeError: as of `VideoDataset`.
        """
        if isinstance(index, tuple):
            return [self.images[row] for row in index]
        return self.videos[index]


class AlternatingSampler(Sampler[Index]):
    """Order an epoch's videos and images so that the even steps train on videos and the odd ones on images.

    An epoch ends when either list has no full step left, and draws both lists again, so that all rows occur over the
    epochs. The order depends on `seed` and the epoch alone.

    Args:
        videos: number of videos.
        images: number of images.
        step_size: videos of an optimizer step: over all processes, and all batches that are accumulated.
        images_per_video: a step of images has so many times `step_size`.
        seed: at least 0.

    Raises:
        ValueError: if a number is out of range, or a list has no full step.
    """

    def __init__(self, videos: int, images: int, *, step_size: int, images_per_video: int = 1, seed: int = 0):
        if images_per_video < 1:
            raise ValueError(f"got {images_per_video} images for each video, expected at least 1")
        self._steps = min(videos // step_size, images // (step_size * images_per_video))  # of each kind
        if self._steps < 1:
            raise ValueError(
                f"got {videos} videos and {images} images for steps of {step_size} videos and "
                f"{step_size * images_per_video} images; lower batch_size"
            )
        self._rows = videos, images
        self._step_size, self._images_per_video = step_size, images_per_video
        self._seed, self._epoch = seed, 0

    def __len__(self) -> int:
        return 2 * self._steps * self._step_size

    def set_epoch(self, epoch: int) -> None:
        """Change the order: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Index]:
        rng = np.random.default_rng((self._seed, self._epoch))
        videos, images = (rng.permutation(rows) for rows in self._rows)
        groups = images[: len(images) // self._images_per_video * self._images_per_video]
        groups = groups.reshape(-1, self._images_per_video)
        for start in range(0, self._steps * self._step_size, self._step_size):
            yield from videos[start : start + self._step_size].tolist()
            yield from map(tuple, groups[start : start + self._step_size].tolist())
