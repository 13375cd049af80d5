"""The video processor of the fused model: one for each of its two encoders, and one decoding for both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoVideoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, preprocess_together


class InternVideoFusedVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of a call.

    Attributes:
        internvideo_mae, uniformerv2: options for one encoder alone, such as `{"num_frames": 8}`, by name.
        num_frames: of the masked encoder, as in the model's configuration, where transformers' pipeline reads it.
        num_clips, num_crops: views of each video, as many for both encoders.
        decoder, input_channel_order: as of `InternVideoVideoProcessor`.
    """

    internvideo_mae: dict | None
    uniformerv2: dict | None
    num_clips: int | None
    num_crops: int | None
    decoder: str | None
    input_channel_order: str | None


# What is said to both encoders at once; all else belongs to one of them.
SHARED = ("num_clips", "num_crops", "decoder", "input_channel_order", "video_metadata", "return_metadata")
SHARED += ("do_sample_frames", "return_tensors", "device")


class InternVideoFusedVideoProcessor(BaseVideoProcessor):
    """Turns videos into the two inputs of the fused model; each video is decoded once.

    Frames, size and statistics are those of each encoder's own processor, so that each sees what it was trained with.
    Call it like an `InternVideoVideoProcessor`. The result holds `pixel_values_videos`, for the masked encoder, and
    `uniformerv2_pixel_values_videos`, `(videos * num_clips * num_crops, frames, 3, height, width)` each: row by row
    the same views.

    Args:
        internvideo_mae, uniformerv2: the processors of both, or their settings.

    Raises:
        ValueError: if one of them is missing, or they make different numbers of views.
    """

    valid_kwargs = InternVideoFusedVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "uniformerv2_pixel_values_videos"]

    def __init__(
        self,
        internvideo_mae: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        uniformerv2: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if internvideo_mae is None or uniformerv2 is None:
            raise ValueError("The fused model wants two processors: pass internvideo_mae and uniformerv2.")
        self.internvideo_mae = _built(internvideo_mae)
        self.uniformerv2 = _built(uniformerv2)
        for name in ("num_clips", "num_crops"):
            numbers = [getattr(processor, name) for processor in self.branches.values()]
            if numbers[0] != numbers[1]:
                raise ValueError(
                    f"{name}: got {numbers[0]} of the masked encoder and {numbers[1]} of the UniFormerV2, expected "
                    "the same views for both; set it in one of them"
                )

    @classmethod
    def from_encoders(cls, internvideo_mae: str | Path, uniformerv2: str | Path) -> "InternVideoFusedVideoProcessor":
        """Take over the processors of two classifiers.

        Args:
            internvideo_mae, uniformerv2: their folders, or names on the Hub.
        """
        return cls(*(AutoVideoProcessor.from_pretrained(folder) for folder in (internvideo_mae, uniformerv2)))

    @property
    def branches(self) -> dict[str, InternVideoVideoProcessor]:
        """Name of an input of the model -> the processor that makes it."""
        return {
            "pixel_values_videos": self.internvideo_mae,
            "uniformerv2_pixel_values_videos": self.uniformerv2,
        }

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Do what calling the processor does; see the class."""
        own = [dict(kwargs.pop(name, None) or {}) for name in ("internvideo_mae", "uniformerv2")]
        if (num_frames := kwargs.pop("num_frames", None)) is not None:
            own[0].setdefault("num_frames", num_frames)
        for name, value in kwargs.items():
            if name not in SHARED and value is not None:
                raise ValueError(
                    f"{name} belongs to one encoder of the two: pass internvideo_mae={{{name!r}: ...}}, "
                    f"uniformerv2={{{name!r}: ...}}, or both."
                )
        features = preprocess_together(list(self.branches.values()), videos, [kwargs | options for options in own])
        result = {name: made["pixel_values_videos"] for name, made in zip(self.branches, features, strict=True)}
        if "video_metadata" in features[0]:
            result["video_metadata"] = features[0]["video_metadata"]
        return BatchFeature(result)

    def to_dict(self) -> dict[str, Any]:
        """The settings of both, as they are saved."""
        both = {"internvideo_mae": self.internvideo_mae.to_dict(), "uniformerv2": self.uniformerv2.to_dict()}
        return {"video_processor_type": type(self).__name__, **both}


def _built(processor: InternVideoVideoProcessor | Mapping[str, Any]) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(**processor) if isinstance(processor, Mapping) else processor
