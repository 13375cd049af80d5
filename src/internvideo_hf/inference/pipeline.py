"""What the pipelines share: one video or many, and batches of views."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from internvideo_hf.models.common.dual_encoder import comparison_problem
from internvideo_hf.processing.video_processing import is_one_video
from internvideo_hf.utils.names import did_you_mean, nearest


class VideoPipeline(Pipeline):
    """A pipeline over videos of every kind that `VideoReader` takes, each decoded once for all of its views.

    A subclass gives `_sanitize_parameters`, `_forward` (which gets `pixel_values_videos`, `(videos, views, frames,
    channels, height, width)`, of the fused model for each encoder) and `postprocess` (one video's answer).
    """

    _load_processor = False
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answer for one video, or for each of several: a list, a generator, or a dataset of videos."""
        if is_single(inputs):
            return super().__call__([inputs], **kwargs)[0]
        videos = list(inputs)
        return super().__call__(videos, **kwargs) if videos else []

    def _processor_parameters(self, options: dict[str, Any]) -> dict[str, Any]:
        """What is no option of the pipeline is one of the video processor, or a mistake."""
        process = self.processor.video_processor if self.processor is not None else self.video_processor
        known = set(process.valid_kwargs.__annotations__)
        for name in options:
            if name not in known:
                hint = did_you_mean(nearest(name, [*known, "top_k", "batch_size"]))
                raise TypeError(f"Unknown option {name}.{hint}")
        return {"processor_options": options} if options else {}

    def preprocess(self, video: Any, processor_options: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        process = self.processor if self.processor is not None else self.video_processor
        views = process(videos=[video], return_tensors="pt", **(processor_options or {}))
        return {name: views[name] for name in process.model_input_names if name.endswith("pixel_values_videos")}

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


def is_single(inputs: Any) -> bool:
    """Tell one video from a list, a generator or a dataset of videos."""
    is_stream = isinstance(inputs, Iterator) and not hasattr(inputs, "read")  # an open file iterates, too
    return not is_stream and not isinstance(inputs, Dataset) and is_one_video(inputs)


def check_dual_encoder(model: Any, tokenizer: Any = None) -> None:
    """Refuse a model that compares no videos with texts."""
    problem = comparison_problem(model, tokenizer)
    if problem is not None:
        raise ValueError(problem)


def check_top_k(top_k: int) -> int:
    """Refuse a number of answers below 1."""
    if top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1.")
    return top_k


def check_finite(scores: Any) -> None:
    """Refuse scores that are no numbers, which damaged weights give."""
    if not all(math.isfinite(score) for score in scores.tolist()):
        raise ValueError("The scores are not finite: the model's weights are damaged. Convert or download it again.")


def _stack(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}
