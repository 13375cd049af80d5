"""A model and its processor as one function from videos and texts to embeddings, and what tells them from others."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.auto import FAMILIES
from internvideo_hf.models.common.dual_encoder import comparison_problem
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.utils.devices import default_device
from internvideo_hf.utils.fingerprints import tensors_sha256

TEXTS_AT_ONCE = 256
# Settings of a video processor that decide about pixels. Named one by one: transformers adds new ones to its own.
PIXEL_SETTINGS = (
    *("do_sample_frames", "num_frames", "sampler", "sampler_kwargs", "num_clips", "num_crops"),
    *("do_resize", "size", "resize_method", "resize_rounding", "do_center_crop", "crop_size", "crop_rounding"),
    *("channel_order", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
# Settings of a configuration of transformers' own that decide about embeddings; its sizes show in the weights.
FOREIGN_SETTINGS = ("model_type", "hidden_act", "layer_norm_eps", "num_attention_heads")
ONLY_FOR_TRAINING = ("dropout", "drop_path", "initializer", "init_value", "grad_cache")


class Encoder:
    """Embeds videos and texts in one space, as unit vectors.

    A model without texts (VideoMAE, UniFormerV2) gives its pooled features: it searches by video and image only.

    Args:
        model: folder or Hub name of any model of this package.
        device: where the model runs; the accelerator if there is one.

    Attributes:
        name: what `model` was.
        dim: numbers of an embedding.
        fingerprint: hash of weights, architecture, processor and vocabulary: equal where all embeddings are.
        text_problem: why the model compares no text with video; None where it does.
        logit_scale: the learned factor before the cosine, 1 where there is none.

    Raises:
        ValueError: if the folder lacks weights or the processor.
    """

    def __init__(self, model: str | Path, device: str | torch.device | None = None):
        self.name = str(model)
        self.device = default_device(device)
        loaded = load_strict(AutoModel, model)
        tokenizer = None
        if FAMILIES[loaded.config.model_type].processor is not None:
            processor = AutoProcessor.from_pretrained(model)
            if not isinstance(processor, InternVideoProcessor):
                raise ValueError(f"{model} holds no processor of videos and texts. Convert or download it again.")
            tokenizer, self._processor = processor.tokenizer, processor
            self.video_processor: InternVideoVideoProcessor = processor.video_processor
        else:
            self.video_processor = AutoVideoProcessor.from_pretrained(model)
        self.text_problem = comparison_problem(loaded, tokenizer)
        self.fingerprint = fingerprint(loaded, self.video_processor, tokenizer)
        self.logit_scale = loaded.logit_scale.exp().item() if hasattr(loaded, "logit_scale") else 1.0
        self.model = loaded.to(self.device).eval()

    @torch.inference_mode()
    def embed_clips(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Embed processed clips.

        Args:
            pixels: `(clips, views, frames, channels, height, width)`; the embedding is the mean over the views'.

        Returns:
            Unit vectors, float32 on the CPU, `(clips, dim)`.
        """
        pixels = torch.as_tensor(pixels).to(self.device, self.model.dtype)
        embed = getattr(self.model, "get_video_features", self.model)
        features = embed(pixel_values_videos=pixels.flatten(0, 1)).pooler_output.float()
        views = nn.functional.normalize(features, dim=-1).unflatten(0, pixels.shape[:2])
        return self._checked(nn.functional.normalize(views.mean(dim=1), dim=-1))

    def embed_video(self, video: Any) -> torch.Tensor:
        """Embed one whole video or image, of every kind that `VideoReader` takes: a unit vector, `(1, dim)`."""
        pixels = self.video_processor(videos=[video], return_tensors="pt")["pixel_values_videos"]
        return self.embed_clips(pixels[None])

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed texts: unit vectors, float32 on the CPU, `(texts, dim)`.

        Raises:
            ValueError: if the model compares no text with video, a text is empty, or longer than the model reads.
        """
        if self.text_problem is not None:
            raise ValueError(f"{self.name}: {self.text_problem} Search by video or image.")
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("The text is empty. Say what the video should show.")
        chunks = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            inputs = self._processor(text=list(texts[start : start + TEXTS_AT_ONCE]), return_tensors="pt")
            chunks.append(self.model.get_text_features(**inputs.to(self.device)).pooler_output.float())
        return self._checked(nn.functional.normalize(torch.cat(chunks), dim=-1))

    def _checked(self, embeddings: torch.Tensor) -> torch.Tensor:
        if not embeddings.isfinite().all():
            raise RuntimeError(
                f"The embeddings of {self.name} are not finite: its weights are damaged. Convert or download it again."
            )
        return embeddings.cpu()


def fingerprint(model: nn.Module, video_processor: InternVideoVideoProcessor, tokenizer: Any = None) -> str:
    """Hash all that decides about embeddings, however the files that hold it are called and divided."""
    pixels = video_processor.to_dict()
    about: dict[str, Any] = {
        "model": _settings(model.config),
        "pixels": {name: pixels[name] for name in PIXEL_SETTINGS if name in pixels},
    }
    if tokenizer is not None:
        about["words"] = [sorted(tokenizer.get_vocab().items()), tokenizer.model_max_length]
    return f"sha256:{tensors_sha256(model.state_dict(), about)[:32]}"


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    names = FOREIGN_SETTINGS
    if type(config).__module__.startswith("internvideo_hf."):
        own = set().union(*(vars(base).get("__annotations__", {}) for base in _own_bases(config)))
        known = [entry.name for entry in fields(config) if entry.name in own]
        names = ["model_type", *(name for name in known if not any(word in name for word in ONLY_FOR_TRAINING))]
    values = {name: getattr(config, name, None) for name in names}
    return {name: _settings(value) if isinstance(value, PreTrainedConfig) else value for name, value in values.items()}


def _own_bases(config: PreTrainedConfig) -> list[type]:
    return [base for base in type(config).__mro__ if base.__module__.startswith("internvideo_hf.")]
