"""End-to-end training: an encoder of windows and a head on its features learn together from whole videos.

The encoder sees a few windows at a time, and computes them once more in the backward pass: memory holds the pixels of
a video and the activations of those windows, whatever its length.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.features import FeatureSettings
from internvideo_hf.data.finding import VideoTree
from internvideo_hf.data.records import ManifestError
from internvideo_hf.inference.encoders import VideoEncoder
from internvideo_hf.inference.features import sampled_frames
from internvideo_hf.inference.runner import video_features
from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import FeatureData
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.data import Cropping, FeatureDataset, Sample
from internvideo_hf.video import VideoReader

ENCODER = "encoder"
"""Folder of the trained encoder, beside the files of the head."""


class EndToEnd(VideoPreTrainedModel):
    """An encoder with a head on its features.

    Args:
        localizer: the head.
        encoder: any model of this package with one video input.
        window: frames of a window.
        stride: frames from one window to the next.
        at_once: windows of a video that the encoder computes together.
    """

    accepts_loss_kwargs = True
    layer_group_rules = {r"encoder": "encoder", r"localizer": "head"}
    backbone_groups = ("encoder",)

    def __init__(self, localizer: PreTrainedModel, encoder: PreTrainedModel, window: int, stride: int, at_once: int):
        super().__init__(localizer.config)
        self.encoder, self.localizer = encoder, localizer
        self.window, self.stride, self.at_once = window, stride, at_once
        self.post_init()

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the embedding of the encoder."""
        embedding: torch.nn.Module = self.encoder.get_input_embeddings()
        return embedding

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave both parts as they are."""

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: Sequence[Mapping[str, torch.Tensor]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Localize actions in videos.

        Args:
            pixel_values_videos: of each video, `(batch, frames, channels, height, width)`.
            attention_mask: `(batch, windows)`, True on real windows; None if all are.
            labels: as of the head.
            kwargs: for the head.
        """
        return self.localizer(self.encode(pixel_values_videos), attention_mask, labels, **kwargs)

    def count_loss_items(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return what the head counts in a batch with `attention_mask` and `labels`."""
        localizer: Any = self.localizer
        count: torch.Tensor = localizer.count_loss_items(batch)
        return count

    def begin_step(self, num_items: torch.Tensor) -> None:
        """Tell the head what was counted in all batches of a step."""
        localizer: Any = self.localizer
        localizer.begin_step(num_items)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of all windows, `(batch, windows, dim)`, float32.

        Args:
            pixels: `(batch, frames, channels, height, width)`.
        """
        windows, rows = count_windows(pixels.shape[1], self.window, self.stride), []
        for start in range(0, windows, self.at_once):
            last = min(start + self.at_once, windows) - 1
            part = pixels[:, start * self.stride : last * self.stride + self.window]
            if torch.is_grad_enabled() and any(weight.requires_grad for weight in self.encoder.parameters()):
                rows.append(checkpoint(self._encode, part, use_reentrant=False))
            else:
                rows.append(self._encode(part))
        return torch.cat(rows, dim=1)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        clips = pixels.unfold(1, self.window, self.stride).movedim(-1, 2)
        return video_features(self.encoder, clips.flatten(0, 1)).reshape(*clips.shape[:2], -1)


def count_windows(frames: int, window: int, stride: int) -> int:
    """Return the number of windows that end inside a video, at least one."""
    return max(frames - window, 0) // stride + 1


def frames_of(data: FeatureData) -> tuple[int, int]:
    """Return the frames of a window, and from one window to the next.

    Args:
        data: settings of the recipe.

    Raises:
        RecipeError: if they are no whole numbers.
    """
    numbers = {"num_frames": data.num_frames, "stride": data.stride}
    for name, number in numbers.items():
        if number is None or number != int(number):
            raise RecipeError(
                f"data.features.{name} is {number}, expected a number of frames, to train the encoder too."
            )
    return int(data.num_frames), int(data.stride or 0)


class _Windows:
    """The numbers of each video's windows, in the place of features."""

    def __init__(self, folder: Path, videos: Mapping[str, VideoAnnotation], data: FeatureData):
        self.folder, self.data, (self.window, self.step) = folder, data, frames_of(data)
        tree = VideoTree(folder)
        found = {name: tree.find([f"{data.prefix}{name}"]) for name in videos}
        self.paths = {name: folder / path for name, path in found.items() if path is not None}

    def __contains__(self, video: object) -> bool:
        return video in self.paths

    def read(self, video: str) -> torch.Tensor:
        with VideoReader(self.paths[video], backend="pyav") as reader:
            frames = len(sampled_frames(reader, self.data.fps))
        return torch.arange(count_windows(frames, self.window, self.step), dtype=torch.float32)[:, None]


class WindowDataset(FeatureDataset):
    """Videos as frames: as `FeatureDataset`, with the pixels of a sample's windows in the place of features.

    Args:
        videos: id -> annotation.
        folder: of the videos.
        data: settings of the recipe.
        processor: of the encoder.
        cropping: random windows for training; None takes each video whole.
        seed: of these.
    """

    def __init__(
        self,
        videos: Mapping[str, VideoAnnotation],
        folder: Path,
        data: FeatureData,
        processor: Any,
        *,
        cropping: Cropping | None,
        seed: int,
    ):
        self.data, self.processor = data, processor
        self.window, self.step = frames_of(data)
        windows: Any = _Windows(folder, videos, data)
        settings = FeatureSettings(self.step, self.window, data.fps)
        super().__init__(
            videos,
            windows,
            settings,
            cropping=cropping,
            tidy=data.tidy and cropping is not None,
            class_agnostic=data.class_agnostic,
            seed=seed,
        )

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        first, last = int(sample.features[0, 0]), int(sample.features[-1, 0])
        windows: Any = self.features
        with VideoReader(windows.paths[sample.video], backend="pyav") as reader:
            numbers = sampled_frames(reader, self.data.fps)[first * self.step : last * self.step + self.window]
            frames = reader.read(list(numbers))
        options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
        pixels: torch.Tensor = self.processor(videos=[frames], **options)["pixel_values_videos"][0]
        if len(pixels) < self.window:
            pixels = torch.cat([pixels, pixels[-1:].expand(self.window - len(pixels), -1, -1, -1)])
        return sample._replace(features=pixels)


def make_model(localizer: PreTrainedModel, data: FeatureData) -> tuple[EndToEnd, Any]:
    """Put an encoder before a head.

    Args:
        localizer: the head.
        data: settings of the recipe, with the encoder's name.

    Returns:
        Both, and the processor of the encoder.

    Raises:
        RecipeError: if settings are missing, or the encoder is not one of this package.
    """
    if data.encoder is None or data.stride is None or data.fps is None:
        raise RecipeError("data.features.encoder, stride and fps must be given, to train the encoder too.")
    if data.fixed_length is not None or data.reference is not None:
        raise RecipeError("data.features.fixed_length and reference are for features in files. Set them to null.")
    encoder = VideoEncoder(data.encoder, device="cpu")
    if not encoder.is_ours:
        raise RecipeError(f"data.features.encoder={data.encoder} is no model of this package, which training needs.")
    try:
        encoder.check_window(frames_of(data)[0])
    except ValueError as error:
        raise RecipeError(f"data.features.num_frames: {error}") from error
    model = EndToEnd(localizer, encoder.model, *frames_of(data), data.at_once)
    return model, encoder.processor


def save(model: Any, folder: Path, processor: Any) -> None:
    """Write the head, and the encoder with its processor into the folder `ENCODER` below.

    Args:
        model: an `EndToEnd`.
        folder: of the head.
        processor: of the encoder.
    """
    model.localizer.save_pretrained(folder)
    model.encoder.save_pretrained(folder / ENCODER)
    processor.save_pretrained(folder / ENCODER)


def open_videos(
    data: FeatureData,
    data_root: Path,
    videos: Mapping[str, VideoAnnotation],
    processor: Any,
    *,
    cropping: Cropping | None = None,
    seed: int = 0,
) -> WindowDataset:
    """Open annotated videos for end-to-end training.

    Args:
        data: settings of the recipe.
        data_root: folder that the videos are below.
        videos: id -> annotation.
        processor: of the encoder.
        cropping: random windows for training; None for evaluation.
        seed: of these.

    Raises:
        ManifestError: if there are no videos.
    """
    if not isinstance(data.folder, str):
        raise RecipeError(f"data.features.folder is {data.folder}, expected the folder of the videos.")
    folder = data_root / data.folder
    if not folder.is_dir():
        raise ManifestError(str(folder), None, "there is no such folder", "Set data.features.folder to the videos'.")
    return WindowDataset(videos, folder, data, processor, cropping=cropping, seed=seed)
