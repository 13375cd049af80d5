"""Any video encoder with its processor: from frames to one feature of each clip, or to its tokens."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoVideoProcessor
from transformers.video_utils import VideoMetadata

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model, video_features
from internvideo_hf.inference.stock import is_stock, load_stock
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import revision
from internvideo_hf.processing.stock import StockVideoProcessor
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.utils.names import check_name, with_article
from internvideo_hf.utils.pretrained import load_pretrained

POOLINGS = ("auto", "mean", "tokens", "attention")
"""How the tokens of a clip become its feature. auto: as the model's own head pools them, by their mean where it has no
head. mean: of all tokens of a layer. tokens: all of them. attention: the model's own pooling by attention."""
# Modules of transformers that pool by attention; ours say so.
_ATTENTION = ("VJEPA2AttentivePooler", "VideoPrismMultiheadAttentionPoolingHead")


class WindowError(ValueError):
    """A model cannot take windows of so many frames."""


class VideoEncoder:
    """A video encoder with its processor, of this package or of others; `inference.stock` says what those give.

    Args:
        name: folder or Hub name of the model.
        layer: the layer whose tokens are pooled: 0 the embedding, 1 the first layer, -1 the last; None for the model's
            result.
        pooling: a name in `POOLINGS`.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of the model, such as "float16"; as saved if None.

    Raises:
        ValueError: if the model encodes no videos, lacks weights, or has no such layer or pooling.
    """

    def __init__(
        self,
        name: str | Path,
        layer: int | None = None,
        pooling: str = "auto",
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ):
        check_name(pooling, POOLINGS, "pooling")
        if layer is not None and pooling == "attention":
            raise ValueError(f"pooling='attention' reads the model's result: leave out layer={layer} (--layer).")
        self.name, self.layer, self.pooling = resolve_model(name), layer, pooling
        self.model: Any
        self.processor: Any
        self.is_ours = not is_stock(self.name)
        if self.is_ours:
            _check_family(self.name, load_pretrained(AutoConfig, self.name).model_type)
            self.model = load_model(AutoModel, self.name, device, dtype)
            self.processor = load_pretrained(AutoVideoProcessor, self.name)
        else:
            self.model, self.processor, *_ = load_stock(self.name, device, dtype)
        if self.is_ours and len(self.processor.branches) > 1:
            raise ValueError(
                f"{self.name} is a fused model: its encoders take different frames of a window. Extract the features "
                "of one encoder alone."
            )
        if pooling == "attention" and not any(map(_pools_by_attention, self.model.modules())):
            raise ValueError(
                f"pooling='attention': {self.name}, {with_article(type(self.model).__name__)}, has no pooling by "
                "attention. Take 'auto' or 'mean' (--pooling)."
            )

    @property
    def revision(self) -> str:
        """Commit of the model on the Hub, or the hash of its files; of others, with those of the processor."""
        if not self.is_ours:
            return str(self.model.identity)
        return revision(self.name, self.model)

    @property
    def num_frames(self) -> int | None:
        """Frames of the clips that the model was built for; None if it does not say."""
        number: int | None = self.processor.num_frames if self.is_ours else self.processor.built
        return number

    def check_window(self, window: int) -> None:
        """Refuse a number of frames that the model cannot take.

        Args:
            window: frames of a clip.

        Raises:
            WindowError: naming the number that it takes.
        """
        if not self.is_ours:
            try:
                self.processor.check_frames(window, "window", " (--window)")
            except ValueError as error:
                raise WindowError(str(error)) from error
            return
        tubelet = getattr(self.model.config, "tubelet_size", 1)
        if window % tubelet:
            raise WindowError(
                f"window={window} must be a multiple of {tubelet}, the frames of this model's tubelets (--window)."
            )
        # Ours interpolate their positions, unless they are exported.
        fixed = self.model.num_frames if isinstance(self.model, ExportedModel) else None
        if fixed is not None and window != fixed:
            raise WindowError(f"window={window} must be {fixed}, the frames of this model's positions (--window).")

    @property
    def process(self) -> Callable[[np.ndarray], torch.Tensor]:
        """What processes frames, also in another process; see `process_frames`."""
        return partial(process_frames, processor=self.processor)

    @property
    def process_raw(self) -> Callable[[np.ndarray], RawPixels | torch.Tensor]:
        """What processes frames for another process; see `raw_frames`."""
        return partial(raw_frames, processor=self.processor)

    @torch.no_grad()
    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """Encode processed clips.

        Args:
            clips: `(clips, frames, channels, height, width)`.

        Returns:
            Float32 on the CPU, `(clips, dim)`, or `(clips, tokens, dim)`.

        Raises:
            ValueError: if the model has no such layer.
        """
        if self.layer is not None or self.pooling in ("mean", "tokens"):
            tokens = self._tokens(clips)
            return (tokens if self.pooling == "tokens" else tokens.mean(dim=1)).cpu()
        return video_features(self.model, clips).cpu()

    def _tokens(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the layer, `(clips, tokens, dim)` float32."""
        options = {} if self.layer is None else {"output_hidden_states": True}
        if self.is_ours:
            tower = getattr(self.model, "vision_model", self.model)
            outputs = tower(pixel_values_videos=clips.to(self.model.device, self.model.dtype), **options)
        else:
            outputs = self.model.tower(clips, **options)
        if self.layer is None:
            states = outputs.last_hidden_state
        else:
            layers = outputs.hidden_states or ()
            if not -len(layers) <= self.layer < len(layers):
                there = (
                    f"has layers 1 to {len(layers) - 1}, where -1 is the last"
                    if layers
                    else "tells none of its layers"
                )
                raise ValueError(f"layer={self.layer}: {self.name} {there} (--layer).")
            states = layers[self.layer]
        # Some layers keep the frames of a clip apart, as clips of their own.
        return cast(torch.Tensor, states.reshape(len(clips), -1, states.shape[-1]).float())


def raw_frames(frames: np.ndarray, processor: Any) -> RawPixels | torch.Tensor:
    """Process frames one by one, but leave the last step to the process that takes them.

    Args:
        frames: as of `process_frames`.
        processor: as of `process_frames`.

    Returns:
        Pixels of one view; processed ones, as of `process_frames`, where there are no others.
    """
    if isinstance(processor, StockVideoProcessor):
        return processor.process(frames)
    metadata = VideoMetadata(total_num_frames=len(frames), frames_indices=list(range(len(frames))))
    made = processor.raw_frames(frames, metadata, do_sample_frames=False, num_clips=1, num_crops=1)
    return made if isinstance(made, RawPixels) else cast(torch.Tensor, made[0])


def process_frames(frames: np.ndarray, processor: Any) -> torch.Tensor:
    """Process frames one by one.

    Args:
        frames: uint8 `(frames, height, width, 3)`, RGB.
        processor: of a `VideoEncoder`.

    Returns:
        Pixels, `(frames, channels, height, width)`.
    """
    if isinstance(processor, StockVideoProcessor):
        return processor.process(frames)
    options: dict[str, Any] = {"do_sample_frames": False, "return_tensors": "pt", "num_clips": 1, "num_crops": 1}
    return cast(torch.Tensor, processor(videos=[frames], **options)["pixel_values_videos"][0])


def _pools_by_attention(module: torch.nn.Module) -> bool:
    return getattr(module, "pools_by_attention", False) or type(module).__name__ in _ATTENTION


def _check_family(name: str, kind: str) -> None:
    """Refuse a head, before its weights are loaded."""
    if FAMILIES[kind].video_processor_name is None:
        raise ValueError(f"{name} is a head on features, not an encoder of videos. Give the model that makes them.")
