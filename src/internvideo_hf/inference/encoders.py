"""Any video encoder with its processor: from frames to one feature of each clip, or to its tokens."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES
from transformers.video_utils import VideoMetadata

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model, video_features
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import revision
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.utils.names import check_name, with_article
from internvideo_hf.utils.pretrained import load_pretrained

POOLINGS = ("auto", "mean", "tokens", "attention")
"""How the tokens of a clip become its feature. auto: as the model's own head pools them, by their mean where it has no
head. mean: of all tokens of a layer. tokens: all of them. attention: the model's own pooling by attention."""
# Modules of transformers that pool by attention; ours say so.
_ATTENTION = ("VJEPA2AttentivePooler", "VideoPrismMultiheadAttentionPoolingHead")
_PIXELS = ("pixel_values_videos", "pixel_values")


class VideoEncoder:
    """A video encoder with its processor, of this package or of transformers (VideoMAE, V-JEPA 2, VideoPrism, ...).

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
        config = load_pretrained(AutoConfig, self.name)
        self.is_ours = config.model_type in FAMILIES
        _check_family(self.name, config)
        architecture = (config.architectures or [""])[0]
        # The classifiers of transformers hold the pooling that their encoders lack; ours pool by themselves.
        self._is_classifier = not self.is_ours and architecture.endswith("ForVideoClassification")
        auto_class = AutoModelForVideoClassification if self._is_classifier else AutoModel
        self.model = load_model(auto_class, self.name, device, dtype)
        self.processor: Any = load_pretrained(AutoVideoProcessor, self.name)
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
        """Commit of the model on the Hub, or the hash of its files."""
        return revision(self.name, self.model)

    @property
    def num_frames(self) -> int | None:
        """Frames of the clips that the model was built for; None if it does not say."""
        config = _vision_config(self.model.config)
        known: int | None = self.processor.num_frames if self.is_ours else getattr(config, "num_frames", None)
        return known or getattr(config, "frames_per_clip", None)

    def check_window(self, window: int) -> None:
        """Refuse a number of frames that the model cannot take.

        Args:
            window: frames of a clip.

        Raises:
            ValueError: naming the number that it takes.
        """
        config = self.model.config if self.is_ours else _vision_config(self.model.config)
        tubelet = getattr(config, "tubelet_size", 1)
        tubelet = tubelet if isinstance(tubelet, int) else tubelet[0]
        if window % tubelet:
            raise ValueError(
                f"window={window} must be a multiple of {tubelet}, the frames of this model's tubelets (--window)."
            )
        # Ours interpolate their positions; V-JEPA 2 has rotary ones.
        fixed = None if self.is_ours else getattr(config, "num_frames", None)
        if isinstance(self.model, ExportedModel):
            fixed = self.model.num_frames
        if fixed is not None and window != fixed:
            raise ValueError(f"window={window} must be {fixed}, the frames of this model's positions (--window).")

    @property
    def process(self) -> Callable[[np.ndarray], torch.Tensor]:
        """What processes frames, also in another process; see `process_frames`."""
        return partial(process_frames, processor=self.processor, is_ours=self.is_ours)

    @property
    def process_raw(self) -> Callable[[np.ndarray], RawPixels | torch.Tensor]:
        """What processes frames for another process; see `raw_frames`."""
        return partial(raw_frames, processor=self.processor, is_ours=self.is_ours)

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
        return (video_features(self.model, clips) if self.is_ours else self._pooled(clips).float()).cpu()

    def _tokens(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the layer, `(clips, tokens, dim)` float32."""
        tower: Any = getattr(self.model, "vision_model", self.model)
        if self._is_classifier:
            tower = self.model.base_model
        outputs = self._run(tower, clips, output_hidden_states=self.layer is not None)
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

    def _pooled(self, clips: torch.Tensor) -> torch.Tensor:
        """Return what the head of a model of transformers reads, `(clips, dim)`."""
        if self._is_classifier:
            seen: list[torch.Tensor] = []
            head: Any = self.model.classifier
            hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
            try:
                self._run(self.model, clips)
            finally:
                hook.remove()
            return seen[0]
        outputs = self._run(getattr(self.model, "get_video_features", self.model), clips)
        if isinstance(outputs, torch.Tensor):
            return outputs
        pooled: torch.Tensor | None = getattr(outputs, "pooler_output", None)
        return outputs.last_hidden_state.mean(dim=1) if pooled is None else pooled

    def _run(self, run: Any, clips: torch.Tensor, **options: Any) -> Any:
        parameters = signature(getattr(run, "forward", run)).parameters
        pixels = next(name for name in _PIXELS if name in parameters)
        if "skip_predictor" in parameters:  # of V-JEPA 2, which pretraining alone needs
            options["skip_predictor"] = True
        return run(**{pixels: clips.to(self.model.device, self.model.dtype)}, **options)


def raw_frames(frames: np.ndarray, processor: Any, is_ours: bool) -> RawPixels | torch.Tensor:
    """Process frames one by one, but leave the last step to the process that takes them.

    Args:
        frames: as of `process_frames`.
        processor: as of `process_frames`.
        is_ours: as of `process_frames`.

    Returns:
        Pixels of one view; processed ones, as of `process_frames`, where there are no others.
    """
    if is_ours:
        metadata = VideoMetadata(total_num_frames=len(frames), frames_indices=list(range(len(frames))))
        made = processor.raw_frames(frames, metadata, do_sample_frames=False, num_clips=1, num_crops=1)
        return made if isinstance(made, RawPixels) else cast(torch.Tensor, made[0])
    return process_frames(frames, processor, is_ours)


def process_frames(frames: np.ndarray, processor: Any, is_ours: bool) -> torch.Tensor:
    """Process frames one by one.

    Args:
        frames: uint8 `(frames, height, width, 3)`, RGB.
        processor: of a model of videos.
        is_ours: it is one of this package.

    Returns:
        Pixels, `(frames, channels, height, width)`.
    """
    options: dict[str, Any] = {"do_sample_frames": False, "return_tensors": "pt"}
    if is_ours:
        options |= {"num_clips": 1, "num_crops": 1}
    inputs = processor(videos=[frames], **options)
    return cast(torch.Tensor, next(inputs[name] for name in _PIXELS if name in inputs)[0])


def _pools_by_attention(module: torch.nn.Module) -> bool:
    return getattr(module, "pools_by_attention", False) or type(module).__name__ in _ATTENTION


def _vision_config(config: Any) -> Any:
    return getattr(config, "vision_config", None) or config


def _check_family(name: str, config: Any) -> None:
    """Refuse a model that encodes no videos, before its weights are loaded."""
    kind = config.model_type
    model_class = AutoModel._model_mapping.get(type(config), None)
    if kind in FAMILIES:
        if FAMILIES[kind].video_processor_name is None:
            raise ValueError(
                f"{name} is a head on features, not an encoder of videos. Give the model that makes them."
            )
    elif kind not in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES and not hasattr(model_class, "get_video_features"):
        if "video" not in (getattr(model_class, "input_modalities", None) or ()):
            raise ValueError(f"{name} is not an encoder of videos: its model_type is {kind}.")
