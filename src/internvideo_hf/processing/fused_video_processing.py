"""The video processor of the fused model: one for each of its two encoders, and one decoding for both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoVideoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, preprocess_together
from internvideo_hf.utils.names import did_you_mean, nearest


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


# What holds for both encoders; all else belongs to one of them.
ALIKE = ("num_clips", "num_crops", "decoder", "input_channel_order")
OF_A_CALL = ("video_metadata", "return_metadata", "do_sample_frames", "return_tensors", "device")
OF_A_FILE = ("video_processor_type", "processor_class", "auto_map")  # what saved settings hold besides


class InternVideoFusedVideoProcessor(BaseVideoProcessor):
    """Turns videos into the two inputs of the fused model; each video is decoded once.

    Frames, size and statistics are those of each encoder's own processor, so that each sees what it was trained with.
    Call it like an `InternVideoVideoProcessor`. The result holds `pixel_values_videos`, for the masked encoder, and
    `uniformerv2_pixel_values_videos`, `(videos * num_clips * num_crops, frames, 3, height, width)` each: row by row
    the same views.

    Args:
        internvideo_mae, uniformerv2: the processors of both, or their settings.
        kwargs: `num_clips`, `num_crops`, `decoder`, `input_channel_order` for both.

    Raises:
        ValueError: if one of them is missing, an option is not for both, or they differ in one that must be alike.
    """

    valid_kwargs = InternVideoFusedVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "uniformerv2_pixel_values_videos"]

    def __init__(
        self,
        internvideo_mae: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        uniformerv2: InternVideoVideoProcessor | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        if internvideo_mae is None or uniformerv2 is None:
            raise ValueError("The fused model wants two processors: pass internvideo_mae and uniformerv2.")
        self.internvideo_mae = _built(internvideo_mae)
        self.uniformerv2 = _built(uniformerv2)
        for name, value in kwargs.items():
            if name in ALIKE and value is not None:
                for processor in self.branches.values():
                    setattr(processor, name, value)
            elif name not in OF_A_FILE:
                _check_shared(name)
        self._options([{}, {}])

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
            if value is not None:
                _check_shared(name)
        options = self._options([kwargs | given for given in own])
        features = preprocess_together(list(self.branches.values()), videos, options)
        result = {name: made["pixel_values_videos"] for name, made in zip(self.branches, features, strict=True)}
        if "video_metadata" in features[0]:
            result["video_metadata"] = features[0]["video_metadata"]
        return BatchFeature(result)

    def _options(self, options: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Options for each encoder, after a check that rows will match, and that one reading serves both."""
        known = InternVideoVideoProcessor.valid_kwargs.__annotations__
        for given in options:
            for name in given.keys() - known:
                raise ValueError(f"{name} is no option.{did_you_mean(nearest(name, known))}")
        for name in ALIKE:
            one, other = (
                getattr(processor, name) if given.get(name) is None else given[name]
                for processor, given in zip(self.branches.values(), options, strict=True)
            )
            if one != other:
                raise ValueError(
                    f"{name}: got {one!r} for the masked encoder and {other!r} for the UniFormerV2, expected the same "
                    "for both: their views are rows of one batch, read in one pass. Set it in one of them."
                )
        return options

    def to_dict(self) -> dict[str, Any]:
        """The settings of both, as they are saved."""
        both = {"internvideo_mae": self.internvideo_mae.to_dict(), "uniformerv2": self.uniformerv2.to_dict()}
        return {"video_processor_type": type(self).__name__, **both}


def _check_shared(name: str) -> None:
    if name not in (*ALIKE, *OF_A_CALL):
        raise ValueError(
            f"{name} belongs to one encoder of the two, if to any: pass internvideo_mae={{{name!r}: ...}}, "
            f"uniformerv2={{{name!r}: ...}}, or both."
        )


def _built(processor: InternVideoVideoProcessor | Mapping[str, Any]) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(**processor) if isinstance(processor, Mapping) else processor
