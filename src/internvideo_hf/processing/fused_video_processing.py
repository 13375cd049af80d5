"""The video processor of the fused model: one processor per encoder, one decoding for both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoVideoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.processing.video_processing import (
    InternVideoVideoProcessor,
    RawPixels,
    preprocess_together,
    raw_together,
)
from internvideo_hf.utils.loader import SavedWithLoader
from internvideo_hf.utils.names import did_you_mean, nearest
from internvideo_hf.utils.pretrained import load_pretrained


class InternVideoFusedVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of a call.

    Attributes:
        internvideo_mae: options for the masked encoder alone, such as `{"num_frames": 8}`.
        uniformerv2: options for the UniFormerV2 alone.
        num_frames: of the masked encoder, where transformers' pipeline reads it.
        num_clips: clips of each video, for both encoders.
        num_crops: crops of each clip, for both encoders.
        decoder: see `InternVideoVideoProcessor`.
        input_channel_order: see `InternVideoVideoProcessor`.
    """

    internvideo_mae: dict[str, Any] | None
    uniformerv2: dict[str, Any] | None
    num_clips: int | None
    num_crops: int | None
    decoder: str | None
    input_channel_order: str | None


# Encoder -> its input of the model.
INPUTS = {"internvideo_mae": "pixel_values_videos", "uniformerv2": "uniformerv2_pixel_values_videos"}
SHARED_OPTIONS = ("num_clips", "num_crops", "decoder", "input_channel_order")
CALL_OPTIONS = ("video_metadata", "return_metadata", "do_sample_frames", "return_tensors", "device")
FILE_KEYS = ("video_processor_type", "processor_class", "auto_map")  # in saved settings, beside options


class InternVideoFusedVideoProcessor(SavedWithLoader, BaseVideoProcessor):
    """Turns videos into the two inputs of the fused model; each video is decoded once.

    Frames, size and statistics are those of each encoder's own processor. Call it like an
    `InternVideoVideoProcessor`. The result holds `pixel_values_videos`, for the masked encoder, and
    `uniformerv2_pixel_values_videos`, `(videos * num_clips * num_crops, frames, 3, height, width)` each; equal rows
    are the same views.

    Args:
        internvideo_mae: the processor of the masked encoder, or its settings.
        uniformerv2: the processor of the UniFormerV2, or its settings.
        kwargs: `num_clips`, `num_crops`, `decoder`, `input_channel_order`, `do_sample_frames` for both.

    Raises:
        ValueError: if a processor is missing, an option is not shared, or the processors differ in a shared option.
    """

    loaded_by = "AutoVideoProcessor"
    valid_kwargs = InternVideoFusedVideoProcessorKwargs  # type: ignore[assignment]  # declared for images
    model_input_names = list(INPUTS.values())

    def __init__(
        self,
        internvideo_mae: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        uniformerv2: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        if internvideo_mae is None or uniformerv2 is None:
            raise ValueError("The fused model needs two processors: pass internvideo_mae and uniformerv2.")
        self.internvideo_mae = _build(internvideo_mae)
        self.uniformerv2 = _build(uniformerv2)
        for name, value in kwargs.items():
            if name in (*SHARED_OPTIONS, "do_sample_frames") and value is not None:
                for processor in self.branches.values():
                    setattr(processor, name, value)
            elif name not in FILE_KEYS:
                _check_shared(name)
        self._check_options([{} for _ in INPUTS])

    @classmethod
    def from_encoders(cls, internvideo_mae: str | Path, uniformerv2: str | Path) -> "InternVideoFusedVideoProcessor":
        """Load the processors of two classifiers.

        Args:
            internvideo_mae: folder of a classifier, or its name on the Hub.
            uniformerv2: the same, of the other classifier.
        """
        return cls(*(load_pretrained(AutoVideoProcessor, folder) for folder in (internvideo_mae, uniformerv2)))

    @property
    def branches(self) -> dict[str, InternVideoVideoProcessor]:
        """Name of an input of the model -> its processor."""
        return {INPUTS[encoder]: processor for encoder, processor in self.encoders.items()}

    @property
    def views(self) -> tuple[int, int]:
        """Clips and crops of each video by which both encoders were tested, or as configured where they differ."""
        first, second = self.branches.values()
        return first.views if first.views == second.views else (first.num_clips, first.num_crops)

    @property
    def encoders(self) -> dict[str, InternVideoVideoProcessor]:
        """Name of an option of this processor -> the processor that it configures."""
        return {encoder: getattr(self, encoder) for encoder in INPUTS}

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Process videos; the same as calling the processor."""
        features = preprocess_together(list(self.branches.values()), videos, self._options(kwargs))
        result = {name: made["pixel_values_videos"] for name, made in zip(self.branches, features, strict=True)}
        if "video_metadata" in features[0]:
            result["video_metadata"] = features[0]["video_metadata"]
        return BatchFeature(result)

    def raw_inputs(self, video: Any, **kwargs: Any) -> dict[str, RawPixels | torch.Tensor]:
        """Process one video, but leave the last step to the process that takes it.

        Args:
            video: of any kind that a call takes.
            kwargs: options of a call.

        Returns:
            The views by name of the model's input; see `InternVideoVideoProcessor.raw_frames`.
        """
        made = raw_together(list(self.branches.values()), video, self._options(kwargs))
        return dict(zip(self.branches, made, strict=True))

    def _options(self, kwargs: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the options of a call for each encoder."""
        own = [dict(kwargs.pop(encoder, None) or {}) for encoder in INPUTS]
        if (num_frames := kwargs.pop("num_frames", None)) is not None:
            own[0].setdefault("num_frames", num_frames)
        for name, value in kwargs.items():
            if value is not None:
                _check_shared(name)
        options = [kwargs | given for given in own]
        self._check_options(options)
        return options

    def _check_options(self, options: list[dict[str, Any]]) -> None:
        """Refuse unknown options of the encoders, and different values of shared ones."""
        known = InternVideoVideoProcessor.valid_kwargs.__annotations__
        for given in options:
            for name in given.keys() - known:
                raise ValueError(f"Unknown option {name}.{did_you_mean(nearest(name, known))}")
        for name in SHARED_OPTIONS:
            values = [
                getattr(processor, name) if given.get(name) is None else given[name]
                for processor, given in zip(self.branches.values(), options, strict=True)
            ]
            if any(value != values[0] for value in values):
                found = " and ".join(f"{value!r} for {encoder}" for encoder, value in zip(INPUTS, values, strict=True))
                raise ValueError(
                    f"{name}: got {found}, expected the same: their views are rows of one batch, read in one pass."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings of both, as they are saved."""
        own = {encoder: processor.to_dict() for encoder, processor in self.encoders.items()}
        return {"video_processor_type": type(self).__name__, **own}


def _check_shared(name: str) -> None:
    if name not in (*SHARED_OPTIONS, *CALL_OPTIONS):
        per_encoder = ", ".join(f"{encoder}={{{name!r}: ...}}" for encoder in INPUTS)
        raise ValueError(f"{name} is a per-encoder option: pass {per_encoder}, or both.")


def _build(processor: InternVideoVideoProcessor | Mapping[str, Any]) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(**processor) if isinstance(processor, Mapping) else processor
