"""Features of untrimmed videos on disk, with their segments, as samples of temporal localization."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from internvideo_hf.data.features import FeatureFolder, FeatureGrid, FeatureSettings, resize_rows
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.samples import sample_seed
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation, without_duplicates
from internvideo_hf.tasks.temporal_localization.decoding import Detections

CROP_ATTEMPTS = 200


class Sample(NamedTuple):
    """A video's features, and its segments on their grid.

    Args:
        video: its id.
        features: `(length, channels)`, float32.
        segments: `(n, 2)`, start and end in steps of the grid.
        labels: `(n,)`, class indices.
        grid: of the features.
        duration: of the video in seconds; None if unknown.
        proposals: segments of another model for one that refines them, in steps of the grid, best first; or None.
    """

    video: str
    features: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor
    grid: FeatureGrid
    duration: float | None = None
    proposals: Detections | None = None


@dataclass(frozen=True)
class Cropping:
    """Random windows of long features, for training. The defaults are the released ones.

    Args:
        max_length: rows of a window; longer features are cut to it.
        min_kept: fraction of a segment that must lie in the window, 0-1; other segments are dropped.
        ratio: least and largest fraction of features no longer than `max_length` that a window takes; None takes all.
    """

    max_length: int
    min_kept: float = 0.5
    ratio: tuple[float, float] | None = (0.9, 1.0)

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length}, expected a number above 0.")
        if not 0 <= self.min_kept <= 1:
            raise ValueError(f"min_kept={self.min_kept}, expected a fraction between 0 and 1.")
        if self.ratio is not None and not 0 < self.ratio[0] <= self.ratio[1] <= 1:
            raise ValueError(f"ratio={self.ratio}, expected two fractions above 0, the smaller one first.")


def crop(sample: Sample, settings: Cropping, generator: random.Random) -> Sample:
    """Take a random window in which at least one segment lies, if 200 attempts find one.

    Args:
        sample: a video.
        settings: the rule.
        generator: of the draws; `random.Random(seed)` repeats those of the released code.

    Returns:
        Segments that lie in the window well enough, cut to it; their times count from its beginning.
    """
    length, window = len(sample.features), settings.max_length
    if length <= window:
        if settings.ratio is None:
            return sample
        low, high = (round(part * length) for part in settings.ratio)
        window = generator.randint(max(low, 1), min(high, length))
        if window == length:
            return sample
    lengths = (sample.segments[:, 1] - sample.segments[:, 0]).abs()
    for _ in range(CROP_ATTEMPTS):
        start = generator.randint(0, length - window)
        cut = sample.segments.clamp(start, start + window)
        # A segment outside has no length: both of its ends are the nearer end of the window.
        kept = (cut[:, 1] - cut[:, 0]).clamp(min=0) / lengths >= settings.min_kept
        if kept.any() or not len(kept):
            break
    features = sample.features[start : start + window]
    return sample._replace(features=features, segments=cut[kept] - start, labels=sample.labels[kept])


@dataclass(frozen=True)
class FeatureSource:
    """The features of a video on disk, and how they become a sample; see `FeatureDataset`.

    Args:
        video: its id.
        annotation: its segments, duration and frame rate.
        features: the files.
        settings: how they lie in time.
        reference: features whose number of rows counts; None for their own.
        tidy: drop and cut segments as for training.
        class_agnostic: give every segment the class 0.
    """

    video: str
    annotation: VideoAnnotation
    features: FeatureFolder
    settings: FeatureSettings
    reference: FeatureFolder | None = None
    tidy: bool = False
    class_agnostic: bool = False

    def load(self) -> Sample:
        """Return the video with all of its features.

        Raises:
            ManifestError: if its features cannot be read, or their times are unknown.
        """
        video, annotation, features = self.video, self.annotation, self.features.read(self.video)
        if self.reference is not None:
            features = resize_rows(features, len(self.reference.read(video)))
        if self.settings.fixed_length is not None:
            features = resize_rows(features, self.settings.fixed_length)
        try:
            grid = self.settings.grid(len(features), annotation.fps, annotation.duration)
        except ValueError as error:
            raise ManifestError(video, None, str(error), "Add it to the annotations.") from None
        seconds, labels = annotation.segments, annotation.labels
        if self.tidy:
            seconds, labels = without_duplicates(seconds, labels)
        if self.class_agnostic:
            labels = np.zeros_like(labels)
        segments = grid.from_seconds(torch.from_numpy(seconds))
        sample = Sample(video, features, segments, torch.from_numpy(labels), grid, annotation.duration)
        return _tidy(sample) if self.tidy else sample


class FeatureDataset(Dataset[Sample]):
    """The videos of a data set whose features are on disk.

    Args:
        videos: id -> annotation, such as `Annotations.of_subset` gives.
        features: the features.
        settings: how they lie in time.
        reference: other features, to whose number of rows each video's are resized, since their timing holds; the
            released loaders do so. None keeps each video's own number.
        cropping: windows for training; None takes each video whole. There are none where `settings.stride` is None.
        tidy: for training, drop repeated segments and those that begin behind the features, and cut the others to
            them, as the released loader of ActivityNet does.
        class_agnostic: give every segment the class 0.
        seed: of the windows, at least 0; a window depends on it, the epoch and the video's place alone.

    Attributes:
        videos: ids of those with features, in order.
        missing: ids of those without.

    Raises:
        ManifestError: if no video has features.
    """

    def __init__(
        self,
        videos: Mapping[str, VideoAnnotation],
        features: FeatureFolder,
        settings: FeatureSettings,
        *,
        reference: FeatureFolder | None = None,
        cropping: Cropping | None = None,
        tidy: bool = False,
        class_agnostic: bool = False,
        seed: int = 0,
    ):
        self.annotations, self.features, self.settings, self.reference = videos, features, settings, reference
        self.cropping, self.tidy, self.class_agnostic = cropping, tidy, class_agnostic
        self.seed = seed
        # In shared memory: workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        folders = [features] if reference is None else [features, reference]
        self.videos = [video for video in videos if all(video in folder for folder in folders)]
        self.missing = [video for video in videos if video not in set(self.videos)]
        if not self.videos:
            example = next(iter(videos), "no id at all")
            cause = f"none of its files is of one of the {len(videos)} annotated videos, such as {example}"
            raise ManifestError(str(features.folder), None, cause, "Check the folder and the prefix.")

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def epoch(self) -> int:
        """Number of the epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Change the windows: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        sample = self.load(self.videos[index])
        if self.cropping is not None and self.settings.stride is not None:
            seed = sample_seed(self.seed, self.epoch, index)
            sample = crop(sample, self.cropping, random.Random(seed))
        return sample

    def load(self, video: str) -> Sample:
        """Return a video with all of its features.

        Args:
            video: its id.

        Raises:
            ManifestError: if its features cannot be read, or their times are unknown.
        """
        return self._source(video, self.features, self.reference).load()

    def source_of(self, video: str) -> FeatureSource:
        """Return what loads a video, and knows of no other.

        Args:
            video: its id, one of `videos`.
        """
        reference = None if self.reference is None else self.reference.only(video)
        return self._source(video, self.features.only(video), reference)

    def _source(self, video: str, features: FeatureFolder, reference: FeatureFolder | None) -> FeatureSource:
        annotation = self.annotations[video]
        return FeatureSource(video, annotation, features, self.settings, reference, self.tidy, self.class_agnostic)


def _tidy(sample: Sample) -> Sample:
    length = len(sample.features)
    inside = sample.segments[:, 0] < length
    return sample._replace(segments=sample.segments[inside].clamp(max=length), labels=sample.labels[inside])
