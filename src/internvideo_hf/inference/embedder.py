"""Embeddings of videos and texts in one space, and the fingerprint of their model and processor."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows
from internvideo_hf.inference.runner import (
    RunSettings,
    VideoProcessor,
    Views,
    cast_of,
    cosine_scale,
    embed_views,
    load_model,
    merge_embeddings,
    read_views,
)
from internvideo_hf.inference.stock import is_stock, load_stock
from internvideo_hf.models.common.dual_encoder import comparison_problem
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.scripts import warn_of_foreign
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.utils.fingerprints import json_sha256, tensors_sha256
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import AnyPath

CHUNK_SIZE = 256  # texts
# Settings of a video processor that affect pixels. A fixed list: new versions of transformers add settings.
PIXEL_SETTINGS = (
    *("do_sample_frames", "num_frames", "sampler", "sampler_kwargs", "num_clips", "num_crops"),
    *("do_resize", "size", "resize_method", "resize_rounding", "do_center_crop", "crop_size", "crop_rounding"),
    *("channel_order", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
# Settings of transformers' own configurations that affect embeddings; the weights determine the sizes.
FOREIGN_SETTINGS = ("model_type", "hidden_act", "layer_norm_eps", "num_attention_heads")
# Settings of our configurations that do not affect embeddings: those of training, and of the caption decoder.
NOT_OF_EMBEDDINGS = (
    "dropout",
    "drop_path",
    "initializer",
    "init_value",
    "grad_cache",
    "decoder_config",
    "evidential",
    "label_heads",
    "points_of_video",
)


@torch.no_grad()
def embed_texts(
    model: PreTrainedModel,
    processor: InternVideoProcessor,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    truncation: bool = False,
    progress: bool = False,
) -> torch.Tensor:
    """Embed texts; repeated texts are embedded once.

    Args:
        model: a dual encoder, on its device.
        processor: of that model.
        texts: one or more.
        max_length: maximum tokens of a text, with begin and end; the tokenizer's maximum if None.
        truncation: cut longer texts, instead of raising an error.
        progress: show a progress bar.

    Returns:
        Unit vectors, float32 on the CPU, `(texts, dim)`.

    Raises:
        ValueError: if a text is too long.
    """
    warn_of_foreign(texts)
    rows: dict[str, int] = {}
    row_of = [rows.setdefault(text, len(rows)) for text in texts]
    unique, chunks = list(rows), []
    options = {"truncation": truncation, "return_tensors": "pt"} | (
        {} if max_length is None else {"max_length": max_length}
    )
    with tqdm(total=len(unique), desc="Embedding texts", unit="text", disable=not progress) as bar:
        for start in range(0, len(unique), CHUNK_SIZE):
            chunk = unique[start : start + CHUNK_SIZE]
            inputs = processor(text=chunk, **options).to(model.device)
            outputs = model.get_text_features(**inputs)  # type: ignore[operator]  # a method of dual encoders
            chunks.append(outputs.pooler_output.float().cpu())
            bar.update(len(chunk))
    return torch.nn.functional.normalize(torch.cat(chunks), dim=-1)[row_of]


class Embedder:
    """Embeds videos and texts in one space, as unit vectors.

    A model without texts (VideoMAE, UniFormerV2) gives its pooled features, for search by video and image only.

    Args:
        model: folder or name of any model of this package, or of a video encoder of others (`inference.stock`); see
            `resolve_model`.
        device: where the model runs; the accelerator if there is one.
        processor_options: settings of the video processor to override, such as `{"num_frames": 16}`.
        dtype: number type of weights and pixels, such as "float16"; as saved if None.

    Attributes:
        name: folder or Hub name of the model.
        model: the loaded model.
        video_processor: frames and pixels.
        text_problem: why the model cannot compare texts with videos, or None if it can.
        logit_scale: the learned factor of the cosine; 1 where the model has none.

    Raises:
        ValueError: if the folder lacks weights or the processor, or the number type is unknown.
    """

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device | None = None,
        processor_options: Mapping[str, Any] | None = None,
        dtype: str | None = None,
    ):
        self.name = model = resolve_model(model)
        self.processor: InternVideoProcessor | None = None
        self.video_processor: InternVideoVideoProcessor
        self._stock = load_stock(model, device, dtype) if is_stock(model) else None
        if self._stock is not None:
            # They have the interface of ours, as far as it is used around a model.
            stock: Any = self._stock
            self.model: PreTrainedModel = stock.model
            self.video_processor, self.processor, self.text_problem = stock[1:]
        else:
            self.model = load_model(AutoModel, model, device, dtype)
            self._load_processors()
        self.device = self.model.device
        self.video_processor.configure(processor_options or {})
        self.logit_scale = cosine_scale(self.model).item()

    def _load_processors(self) -> None:
        model = self.name
        if FAMILIES[self.model.config.model_type].processor is not None:
            self.processor = load_pretrained(AutoProcessor, model)
            if not isinstance(self.processor, InternVideoProcessor):
                raise ValueError(f"{model} has no processor of videos and texts. Convert or download it again.")
            self.video_processor = self.processor.video_processor
        else:
            self.video_processor = load_pretrained(AutoVideoProcessor, model)
        self.text_problem = comparison_problem(self.model, self._tokenizer)

    @property
    def _tokenizer(self) -> Any:
        return None if self.processor is None else self.processor.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, architecture, processor and vocabulary; equal hashes mean equal embeddings.

        The number type in which the model runs does not count: it changes embeddings by rounding alone.
        """
        if self._stock is not None:
            return self._stock.fingerprint
        as_saved = self.model if cast_of(self.model) is None else load_strict(AutoModel, self.name)
        return fingerprint(as_saved, self.video_processor, self._tokenizer)

    @torch.no_grad()
    def embed_clips(self, pixels: np.ndarray | torch.Tensor, merge: bool = True) -> torch.Tensor:
        """Embed processed clips.

        Args:
            pixels: `(clips, views, frames, channels, height, width)`.
            merge: merge the views of a clip.

        Returns:
            Unit vectors, float32 on the CPU, `(clips, dim)`; without `merge`, `(clips, views, dim)`.
        """
        views = embed_views(self.model, torch.as_tensor(pixels))
        return self._checked(merge_embeddings(views) if merge else views)

    def embed_video(self, video: Any) -> torch.Tensor:
        """Embed one video or image, of every kind that `VideoReader` takes: a unit vector, `(1, dim)`."""
        pixels = self.video_processor(videos=[video], return_tensors="pt")["pixel_values_videos"]
        return self.embed_clips(pixels[None])

    def embed_videos(
        self, rows: Sequence[Row], settings: RunSettings, merge: bool = True, parts: AnyPath | None = None
    ) -> tuple[torch.Tensor, dict[int, str]]:
        """Decode and embed the videos of a list.

        Args:
            rows: see `read_views`.
            settings: batches, workers, unreadable videos, progress bar.
            merge: merge the views of a video.
            parts: a folder for finished parts, as of `run_rows`.

        Returns:
            Unit vectors, `(videos, dim)`, without `merge` `(videos, views, dim)`, NaN for an unreadable video; and the
            causes by row.

        Raises:
            TooManyFailuresError: if more than `settings.max_damaged` of the videos are unreadable.
        """
        views = self.video_processor.num_clips * self.video_processor.num_crops
        work = Work(
            partial(read_views, processor=self.video_processor),
            partial(of_views, compute=partial(_embeddings, merge=merge)),
            Loader(Embedder, str(self.name), (("dtype", cast_of(self.model)),), "model"),
            views,
        )
        found, causes = run_rows(rows, self, work, settings, parts=parts, description="Embedding videos")
        return found["embeddings"], causes

    def embed_texts(
        self, texts: Sequence[str], max_length: int | None = None, truncation: bool = False, progress: bool = False
    ) -> torch.Tensor:
        """Embed texts: unit vectors, float32 on the CPU, `(texts, dim)`; see `embed_texts`.

        Raises:
            ValueError: if the model cannot embed texts, or a text is empty or too long.
        """
        if self.processor is None or self.text_problem is not None:
            raise ValueError(f"{self.name}: {self.text_problem} Search by video or image.")
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("The text is empty. Describe the video.")
        embeds = embed_texts(
            self.model, self.processor, texts, max_length=max_length, truncation=truncation, progress=progress
        )
        return self._checked(embeds)

    def _checked(self, embeddings: torch.Tensor) -> torch.Tensor:
        embeddings = embeddings.cpu()
        check_finite(embeddings.numpy(), f"An embedding of {self.name}")
        return embeddings


def _embeddings(embedder: Embedder, views: Views, merge: bool) -> dict[str, torch.Tensor]:
    return {"embeddings": embedder.embed_clips(views["pixel_values_videos"], merge)}


def pixel_settings(processor: VideoProcessor) -> dict[str, dict[str, Any]]:
    """Return the settings that affect pixels, for each input of a model by its name.

    Args:
        processor: of the model.
    """
    settings = {name: branch.to_dict() for name, branch in processor.branches.items()}
    return {
        name: {key: value for key, value in own.items() if key in PIXEL_SETTINGS} for name, own in settings.items()
    }


def fingerprint(model: PreTrainedModel, video_processor: InternVideoVideoProcessor, tokenizer: Any = None) -> str:
    """Hash everything that affects embeddings; names and number of the files do not matter.

    An exported model has the hash of the one that it was exported from, where it has the same processor and differs by
    the rounding of floating-point numbers alone.
    """
    about = facts(model, video_processor, tokenizer)
    if not isinstance(model, ExportedModel):
        return f"sha256:{tensors_sha256(model.state_dict(), about)[:32]}"
    same = model.manifest.embeddings
    if same is not None and same["facts"] == json_sha256(about):
        return str(same["fingerprint"])
    return f"sha256:{json_sha256([model.manifest.identity, about])[:32]}"


def facts(model: PreTrainedModel, video_processor: InternVideoVideoProcessor, tokenizer: Any = None) -> dict[str, Any]:
    """Return everything that affects embeddings but the weights, as JSON; see `fingerprint`."""
    pixels = video_processor.to_dict()
    about: dict[str, Any] = {
        "model": _settings(model.config),
        "pixels": {name: pixels[name] for name in PIXEL_SETTINGS if name in pixels},
    }
    if tokenizer is not None:
        about["words"] = [sorted(tokenizer.get_vocab().items()), tokenizer.model_max_length]
    return about


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    names = list(FOREIGN_SETTINGS)
    if type(config).__module__.startswith("internvideo_hf."):
        own = set().union(*(vars(base).get("__annotations__", {}) for base in _own_bases(config)))
        known = [entry.name for entry in fields(config) if entry.name in own]
        names = ["model_type", *(name for name in known if not any(word in name for word in NOT_OF_EMBEDDINGS))]
    values = {name: getattr(config, name, None) for name in names}
    return {name: _settings(value) if isinstance(value, PreTrainedConfig) else value for name, value in values.items()}


def _own_bases(config: PreTrainedConfig) -> list[type]:
    return [base for base in type(config).__mro__ if base.__module__.startswith("internvideo_hf.")]
