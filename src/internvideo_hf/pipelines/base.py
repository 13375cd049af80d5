"""What the pipelines share: one video or many, and batches of views."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from internvideo_hf.processing.video_processing import is_one_video


class VideoPipeline(Pipeline):
    """A pipeline over videos of every kind that `VideoReader` takes, each decoded once for all of its views.

    A subclass gives `_sanitize_parameters`, `_forward` (which gets `pixel_values_videos`, `(videos, views, frames,
    channels, height, width)`) and `postprocess` (one video's answer).
    """

    _load_processor = False
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answer for one video, or for each of a list of videos."""
        if is_one_video(inputs):
            return super().__call__([inputs], **kwargs)[0]
        return super().__call__(list(inputs), **kwargs) if len(inputs) else []

    def preprocess(self, video: Any, processor_options: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        process = self.processor if self.processor is not None else self.video_processor
        views = process(videos=[video], return_tensors="pt", **(processor_options or {}))
        return {"pixel_values_videos": views["pixel_values_videos"]}

    def get_iterator(
        self,
        inputs: Sequence[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        # transformers' own collation knows texts and images only.
        loader = DataLoader(
            PipelineDataset(inputs, self.preprocess, preprocess_params),
            num_workers=num_workers,
            batch_size=batch_size,
            collate_fn=_stack,
        )
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)


def check_top_k(top_k: int) -> int:
    """Refuse a number of answers below 1."""
    if top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1.")
    return top_k


def _stack(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {"pixel_values_videos": torch.stack([item["pixel_values_videos"] for item in items])}
