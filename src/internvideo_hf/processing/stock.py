"""Processors of transformers behind the interface of this package's own.

Which frames a clip has: as the processor says (`num_frames`, `fps`, or a rule of its class); where it says nothing, as
VideoMAE's, the number for which the model was built (`num_frames` or `frames_per_clip` of config.json), spread evenly.
A model with a table of positions for a number of frames gets that number in any case, and a video of fewer frames
repeats some. Size and normalization are the processor's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.feature_extraction_utils import BatchFeature
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from internvideo_hf.processing.processing import TextLengthError
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, Statistics, read_selected

PIXELS = ("pixel_values_videos", "pixel_values")
"""Names of the input of frames, as models of transformers have them."""
# Options that `BaseVideoProcessor.preprocess` keeps from a rule of frames.
_NOT_OF_FRAMES = ("input_data_format", "do_convert_rgb", "do_sample_frames", "device", "video_metadata")
_USUAL_FRAMES = 16


class StockVideoProcessor:
    """Frames and pixels by a processor of transformers, behind the interface of `InternVideoVideoProcessor`.

    It makes one view of a video. Its module says which frames it takes.

    Args:
        stock: the processor: of videos, of images (of which some take videos), or of a whole model.
        config: of the model.
        name: its folder or name, for messages.
        options: settings of videos that come before those of the processor.
        input_name: of the model's input.
        leaves_frames: hand out frames as they were decoded, for a model that processes them itself.

    Attributes:
        fixed: the number of frames that the model takes; None for any.
        built: the number of frames that it was built for; None if it does not say.
        multiple: frames of a tubelet, of which a clip has a multiple.
        remark: where the number of frames comes from if the processor does not say it; else "".

    Raises:
        ValueError: if nothing says how many frames a clip has.
    """

    num_clips = num_crops = 1
    views = (1, 1)
    do_sample_frames = True
    decoder = "auto"
    input_channel_order = "rgb"

    def __init__(
        self,
        stock: Any,
        config: PreTrainedConfig,
        name: str,
        options: Mapping[str, Any] | None = None,
        *,
        input_name: str = PIXELS[0],
        leaves_frames: bool = False,
    ):
        self._stock, self._name, self._input_name, self._leaves_frames = stock, name, input_name, leaves_frames
        # A processor of text and video has settings of videos of its own, beside those of the one that it holds.
        given = {**(getattr(stock, "video_kwargs", None) or {}), **(options or {})}
        self._own: Any = getattr(stock, "video_processor", None) or getattr(stock, "image_processor", None) or stock
        known = getattr(self._own, "valid_kwargs", None)
        names = () if known is None else known.__annotations__
        self._options = {key: getattr(self._own, key, None) for key in names if key not in _NOT_OF_FRAMES}
        self._options |= {key: value for key, value in given.items() if key in self._options}
        self._configured: dict[str, Any] = {}
        vision: Any = getattr(config, "vision_config", None) or config
        self.fixed: int | None = getattr(vision, "num_frames", None)
        self.built: int | None = self.fixed or getattr(vision, "frames_per_clip", None)
        tubelet = getattr(vision, "tubelet_size", 1)
        self.multiple: int = tubelet if isinstance(tubelet, int) else tubelet[0]
        self.remark = ""
        rule = getattr(type(self._own), "sample_frames", None)
        is_own = rule is not None and rule is not BaseVideoProcessor.sample_frames
        self._number: int | None = None if is_own else self._options.get("num_frames")
        if self._number is None and not is_own and self._options.get("fps") is None:
            if self.built is None:
                raise ValueError(
                    f"{name} does not say how many frames it takes, neither in its processor (num_frames, fps) nor in "
                    "its config.json. Add num_frames to its video_preprocessor_config.json."
                )
            self._number = self.built
            self.remark = (
                f"The processor of {name} does not say which frames it takes: clips have {self.built}, for which the "
                "model was built, spread evenly."
            )

    @property
    def samples_by_time(self) -> bool:
        """Whether the rule needs the video's frame rate."""
        return self._number is None and self._options.get("fps") is not None

    @property
    def is_variable(self) -> bool:
        """Whether the number of frames depends on the video."""
        return self.fixed is None and self._number is None and self._options.get("num_frames") is None

    @property
    def num_frames(self) -> int:
        """Frames of a clip; where their number depends on the video, one that is usual."""
        return self.fixed or self._number or self._options.get("num_frames") or _USUAL_FRAMES

    @property
    def branches(self) -> dict[str, InternVideoVideoProcessor]:
        """Name of the model's input -> this processor."""
        return {self._input_name: cast(InternVideoVideoProcessor, self)}

    @property
    def changes(self) -> dict[str, Any]:
        """Settings that differ from those of the folder."""
        return dict(self._configured)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings of the processor, and the number of frames."""
        return {
            **self._own.to_dict(),
            "do_sample_frames": True,
            "num_frames": None if self.is_variable else self.num_frames,
        }

    def configure(self, options: Mapping[str, Any]) -> None:
        """Set the number of frames; views of which there is one stay as they are.

        Raises:
            ValueError: if another setting is asked for, or the model takes another number.
        """
        self.check_views(options.get("num_clips"), options.get("num_crops"))
        for option, value in options.items():
            if option in ("num_clips", "num_crops"):
                continue
            if option != "num_frames":
                raise ValueError(
                    f"{option}={value}: {self._name} has a processor of transformers, which does as its file says. "
                    "Leave it out, or change its video_preprocessor_config.json."
                )
            self.check_frames(value, "num_frames")
            self._number, self._configured = value, {"num_frames": value}

    def check_views(self, num_clips: int | None, num_crops: int | None) -> None:
        """Refuse several views of a video.

        Args:
            num_clips: clips in time; None for one.
            num_crops: crops in space; None for one.

        Raises:
            ValueError: if there are several.
        """
        for option, value in (("num_clips", num_clips), ("num_crops", num_crops)):
            if value not in (None, 1):
                raise ValueError(
                    f"{option}={value}: {self._name} has a processor of transformers, which makes one view of a "
                    "video. Leave it out."
                )

    def check_frames(self, number: int, option: str, hint: str = "") -> None:
        """Refuse a number of frames that the model cannot take.

        Args:
            number: frames of a clip.
            option: name of the argument.
            hint: option of the command.

        Raises:
            ValueError: naming the number that it takes.
        """
        if number % self.multiple:
            raise ValueError(
                f"{option}={number} must be a multiple of {self.multiple}, the frames of this model's tubelets{hint}."
            )
        if self.fixed is not None and number != self.fixed:
            raise ValueError(f"{option}={number} must be {self.fixed}, the frames of this model's positions{hint}.")

    def sample_frames(self, metadata: VideoMetadata, num_clips: int | None = None) -> np.ndarray:
        """Select the frames of a clip.

        Args:
            metadata: with `total_num_frames`, and `fps` for a rule that counts in seconds.
            num_clips: 1, or None.

        Returns:
            Indices, `(frames,)`.

        Raises:
            ValueError: if several clips are asked for, or the video has no frame rate.
        """
        self.check_views(num_clips, None)
        total = metadata.total_num_frames
        if self._number is not None:
            return _spread(self.fixed or self._number, total)
        if self.samples_by_time and metadata.fps is None:
            raise ValueError(f"it has no frame rate, by which the processor samples (fps={self._options['fps']})")
        indices: np.ndarray = np.asarray(self._own.sample_frames(metadata=metadata, **self._options))
        if self.fixed is not None:
            places = _spread(self.fixed, len(indices))
        else:
            missing = -len(indices) % self.multiple
            places = np.minimum(np.arange(len(indices) + missing), len(indices) - 1)
        found: np.ndarray = indices[places]
        return found

    def process(self, frames: np.ndarray) -> torch.Tensor:
        """Process frames one by one.

        Args:
            frames: uint8 `(frames, height, width, 3)`, RGB.

        Returns:
            Pixels, `(frames, channels, height, width)`.

        Raises:
            ValueError: if the processor makes something else.
        """
        if self._leaves_frames:
            return torch.from_numpy(frames).permute(0, 3, 1, 2)
        inputs = self._stock(videos=[frames], do_sample_frames=False, return_tensors="pt")
        pixels = next((inputs[name] for name in PIXELS if name in inputs), None)
        if not isinstance(pixels, torch.Tensor) or pixels.ndim != 5:
            raise ValueError(
                f"{self._name} is not an encoder of clips: {type(self._stock).__name__} does not return pixels of "
                "shape (clips, frames, channels, height, width). Give a model such as VideoMAE, V-JEPA 2 or X-CLIP."
            )
        return pixels[0]

    def raw_frames(self, frames: np.ndarray, metadata: VideoMetadata, **kwargs: Any) -> torch.Tensor:
        """Process the frames of one video: its one view, `(1, frames, channels, height, width)`.

        Args:
            frames: as of `process`.
            metadata: ignored.
            kwargs: of one view.
        """
        self.check_views(kwargs.get("num_clips"), kwargs.get("num_crops"))
        return self.process(frames)[None]

    def process_frames(
        self, frames: Sequence[np.ndarray], metadata: Sequence[VideoMetadata], **kwargs: Any
    ) -> BatchFeature:
        """Process frames that have been read; see `InternVideoVideoProcessor.process_frames`.

        Args:
            frames: of each video.
            metadata: of each video.
            kwargs: of one view.
        """
        views = [self.raw_frames(*video, **kwargs)[0] for video in zip(frames, metadata, strict=True)]
        return BatchFeature({"pixel_values_videos": torch.stack(views)})

    def raw_inputs(self, video: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Read and process one video; see `InternVideoVideoProcessor.raw_inputs`.

        Args:
            video: of any kind that `VideoReader` takes.
            kwargs: of one view.
        """
        ((frames, metadata),) = read_selected(video, [self.sample_frames], self.decoder, self.input_channel_order)
        return {"pixel_values_videos": self.raw_frames(frames, metadata, **kwargs)}

    def __call__(self, videos: Sequence[Any], **kwargs: Any) -> BatchFeature:
        """Read and process videos: `pixel_values_videos`, `(videos, frames, channels, height, width)`.

        Args:
            videos: each of any kind that `VideoReader` takes.
            kwargs: of one view.
        """
        read = [self.raw_inputs(video)["pixel_values_videos"][0] for video in videos]
        return BatchFeature({"pixel_values_videos": torch.stack(read)})

    def statistics(self, **kwargs: Any) -> Statistics:
        """Return that frames which are left as they are stay so.

        Args:
            kwargs: ignored.
        """
        return Statistics(False, 1.0, False, (0.0,) * 3, (1.0,) * 3)


class StockTextProcessor:
    """Texts by a processor or tokenizer of transformers, or for a sentence-transformers model.

    Args:
        stock: takes `text`; None leaves texts to the model.
        tokenizer: of the model.
        options: settings of texts, of the processor.
    """

    null_captions = None

    def __init__(self, stock: Any, tokenizer: Any, options: Mapping[str, Any] | None = None):
        self.tokenizer = tokenizer
        self._stock, self._options = stock, {"padding": True, **(options or {})}

    def __call__(self, text: Sequence[str], **kwargs: Any) -> BatchFeature:
        """Prepare texts for the model.

        Args:
            text: one or more.
            kwargs: `truncation`, `max_length`, `return_tensors`.

        Raises:
            TextLengthError: if a text is too long, unless it may be cut.
        """
        texts = list(text)
        if self._stock is None:
            return BatchFeature({"texts": texts})
        options = self._options | kwargs
        if not kwargs.get("truncation"):
            limit = min(self._options.get("max_length") or self.tokenizer.model_max_length, 10**9)
            for one, ids in zip(texts, self.tokenizer(texts, verbose=False)["input_ids"], strict=True):
                if len(ids) > limit:
                    raise TextLengthError(
                        f"The text {one[:40] + '...'!r} has {len(ids)} tokens, expected at most {limit}."
                    )
        return BatchFeature(dict(self._stock(text=texts, **options)))


def _spread(number: int, total: int) -> np.ndarray:
    """Return indices of evenly spread frames, as transformers does; of fewer frames some repeat."""
    return np.arange(number) * total // number
