"""The model that is served: what it can do, loaded with the parts that commands and pipelines use."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForMultimodalLM,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.kinds import (
    AUTOENCODER,
    CAPTIONER,
    CLASSIFIER,
    DUAL_ENCODER,
    ENCODER,
    FEATURE_HEAD,
    kind_of,
)
from internvideo_hf.inference.pipeline import inputs_of
from internvideo_hf.inference.rows import to_arrays, to_tensors
from internvideo_hf.inference.runner import load_model
from internvideo_hf.inference.untrimmed import encoder_of, extract_features, extractor_for, resizing_of
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import check_classifier
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.serving.limits import Limits
from internvideo_hf.serving.pool import limit_memory
from internvideo_hf.serving.sources import Source, opened
from internvideo_hf.tasks.captioning.pipeline import ONE_VIEW, VideoToTextPipeline
from internvideo_hf.tasks.classification.pipeline import MultiViewVideoClassificationPipeline
from internvideo_hf.tasks.temporal_localization.pipeline import TemporalActionLocalizationPipeline
from internvideo_hf.tasks.zero_shot.pipeline import ZeroShotVideoClassificationPipeline
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained

EMBEDDINGS, CLASSIFY, SEARCH, CAPTION, LOCALIZE = ABILITIES = (
    "embeddings",
    "classify",
    "search",
    "caption",
    "localize",
)
_ENCODERS = (DUAL_ENCODER, CAPTIONER, ENCODER, AUTOENCODER)


@dataclass(frozen=True)
class Reading:
    """How a decoder makes the inputs of a model.

    Args:
        processor: of videos.
        options: of the processor.
    """

    processor: Any
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, source: Source, limits: Limits) -> dict[str, Any]:
        """Return the model's inputs by name, for `to_tensors`, where possible before they are normalized.

        Raises:
            VideoDecodeError: if the video cannot be read, or is beyond a limit.
        """
        torch.set_num_threads(1)  # the processes share the cores
        decoder = next(iter(self.processor.branches.values())).decoder
        with opened(source, decoder, limits) as reader:
            return cast(dict[str, Any], to_arrays(inputs_of(reader, self.processor, self.options, raw=True)))


@dataclass(frozen=True)
class Localizing:
    """How a process finds the actions of a video, with a model of its own: it decodes where it embeds.

    Args:
        head: folder of the head.
        device: where the models run.
        dtype: number type of the models; as saved if None.
        batch_size: windows per forward pass.
    """

    head: str
    device: str | None = None
    dtype: str | None = None
    batch_size: int = 8

    def prepare(self, _: None, max_memory: int) -> None:
        """Load the models, and limit what a video may take beside them.

        Args:
            max_memory: in bytes.
        """
        pipe = _localizer(self)
        if pipe.device.type == "cpu":  # drivers of accelerators take memory as they like
            limit_memory(max_memory)

    def __call__(self, source: Source, limits: Limits) -> Any:
        """Return the `Localization` of a video.

        Raises:
            VideoDecodeError: if the video cannot be read, or is beyond a limit, or shorter than a window.
        """
        pipe = _localizer(self)
        with opened(source, "auto", limits) as reader:
            features = extract_features(pipe.extractor, reader, **resizing_of(pipe.model.config))
        return pipe.localizer.localize(features, source.name)


@lru_cache(maxsize=1)
def _localizer(how: Localizing) -> TemporalActionLocalizationPipeline:
    where = {"device": how.device, "dtype": how.dtype}
    model = load_model(auto_class("AutoModelForTemporalLocalization"), how.head, **where)
    extractor = extractor_for(model.config, None, how.head, batch_size=how.batch_size, **where)
    return TemporalActionLocalizationPipeline(model=model, feature_extractor=extractor, device=model.device)


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with everything that requests ask of it.

    Args:
        name: by which requests may name it.
        kind: what it is, see `inference.kinds`.
        created: when it was loaded, in seconds since 1970.
        embedder: of videos and texts; None for models without.
        classifier: with classes of its own.
        zero_shot: classifier by given labels.
        captioner: writes captions.
        localizing: finds actions.
        index: to search in.
    """

    name: str
    kind: str
    created: int
    embedder: Embedder | None = None
    classifier: MultiViewVideoClassificationPipeline | None = None
    zero_shot: ZeroShotVideoClassificationPipeline | None = None
    captioner: VideoToTextPipeline | None = None
    localizing: Localizing | None = None
    index: VideoIndex | None = None

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        index: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
        batch_size: int = 8,
    ) -> "ServedModel":
        """Load a model for serving.

        Args:
            model: folder or name of any model of this package; see `resolve_model`.
            index: folder of the model's index, or the address of its store.
            device: where it runs; the accelerator if there is one.
            dtype: number type of its weights; as saved if None.
            batch_size: clips per forward pass.

        Raises:
            ValueError: if nothing can be served with it, or the index is that of another model.
        """
        folder = resolve_model(model)
        found = kind_of(Path(folder))
        kind, class_name = found or (DUAL_ENCODER, "")
        about: dict[str, Any] = {"name": Path(str(model)).name, "kind": kind, "created": int(time.time())}
        if kind == FEATURE_HEAD:
            if index is not None:
                raise ValueError(f"{model} is {kind}, and has no index. Leave out --index.")
            if (encoder := encoder_of(load_pretrained(AutoConfig, folder))) is None:
                raise ValueError(f"{model} does not name the encoder of its features, which `serve` needs.")
            try:
                resolve_model(encoder)  # here, where it is said in one line
            except ValueError as error:
                message = f"The encoder of {model} was {encoder}, which is not there. Put its folder where it was"
                raise ValueError(f"{message}, or beside {model}, and name it in config.json.") from error
            where = None if device is None else str(device)
            return cls(**about, localizing=Localizing(folder, where, dtype, batch_size))
        if kind not in (*_ENCODERS, CLASSIFIER):
            raise ValueError(
                f"{model} cannot be served: it holds {with_article(class_name)}. Served are classifiers, encoders, "
                "models of video and text or of captions, and heads that localize actions."
            )
        gallery = None
        if index is not None:
            gallery = VideoIndex.load(index, model=folder, device=device, model_dtype=dtype)
            if not len(gallery):
                raise ValueError(f"{gallery.place} holds no videos. Add some by `internvideo index`.")
            about |= {"index": gallery, "embedder": gallery.encoder}  # refuses another model
        if kind == CLASSIFIER:
            return cls(**about, classifier=_classifier(folder, device, dtype))
        embedder = about.setdefault("embedder", None) or Embedder(folder, device, dtype=dtype)
        about["embedder"] = embedder
        if embedder.text_problem is None:
            about["zero_shot"] = ZeroShotVideoClassificationPipeline(
                model=embedder.model, processor=embedder.processor, device=embedder.device
            )
        if kind == CAPTIONER:
            about["captioner"] = _captioner(folder, embedder, dtype)
        return cls(**about)

    @property
    def abilities(self) -> list[str]:
        """Endpoints that it answers, of `ABILITIES`."""
        has = {
            EMBEDDINGS: self.embedder,
            CLASSIFY: self.classifier or self.zero_shot,
            SEARCH: self.index,
            CAPTION: self.captioner,
            LOCALIZE: self.localizing,
        }
        return [ability for ability, part in has.items() if part is not None]

    def reading(self, ability: str) -> Reading:
        """Return what makes the inputs of an ability.

        Args:
            ability: but `LOCALIZE`.
        """
        if ability == CLASSIFY and self.classifier is not None:
            processor = self.classifier.video_processor
            clips, crops = processor.views  # type: ignore[union-attr]  # of this package
            return Reading(processor, {"num_clips": clips, "num_crops": crops})
        assert self.embedder is not None  # all others have one
        return Reading(self.embedder.video_processor, dict(ONE_VIEW) if ability == CAPTION else {})

    def embed(self, batch: Sequence[dict[str, Any]]) -> list[Tensor]:
        """Return the unit vectors of videos, `(dim,)` each.

        Args:
            batch: of each video what its `Reading` returned, of the same shapes.
        """
        assert self.embedder is not None
        clips = [to_tensors(inputs, self.embedder.device)["pixel_values_videos"] for inputs in batch]
        return list(self.embedder.embed_clips(torch.stack(clips)))

    def embed_texts(self, batch: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return the unit vectors of the texts of requests, `(texts, dim)` each.

        Args:
            batch: the texts of each request.
        """
        assert self.embedder is not None
        together = self.embedder.embed_texts([text for texts in batch for text in texts])
        return list(torch.split(together, [len(texts) for texts in batch]))

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of some texts."""
        processor = None if self.embedder is None else self.embedder.processor
        if processor is None or not texts:
            return 0
        return sum(map(len, processor.tokenizer(list(texts), verbose=False)["input_ids"]))

    def answer(self, ability: str, options: tuple[tuple[str, Any], ...], batch: Sequence[dict[str, Any]]) -> Any:
        """Return the answers of a pipeline for videos.

        Args:
            ability: `CLASSIFY` or `CAPTION`.
            options: of a call.
            batch: of each video what its `Reading` returned, of the same shapes.
        """
        pipe = self.pipeline(ability)
        return pipe.answer_batch([to_tensors(inputs, pipe.device) for inputs in batch], **dict(options))

    def pipeline(self, ability: str) -> Any:
        """Return the pipeline of an ability.

        Args:
            ability: `CLASSIFY` or `CAPTION`.
        """
        return self.captioner if ability == CAPTION else self.classifier or self.zero_shot


def _classifier(folder: str, device: Any, dtype: str | None) -> MultiViewVideoClassificationPipeline:
    check_classifier(folder)
    model = load_model(AutoModelForVideoClassification, folder, device, dtype)
    processor = load_pretrained(AutoVideoProcessor, folder)
    return MultiViewVideoClassificationPipeline(model=model, video_processor=processor, device=model.device)


def _captioner(folder: str, embedder: Embedder, dtype: str | None) -> VideoToTextPipeline:
    model = load_model(AutoModelForMultimodalLM, folder, embedder.device, dtype)
    # The same weights, once in memory.
    if isinstance(model, ExportedModel):
        model.graphs = {**model.graphs, **cast(ExportedModel, embedder.model).graphs}
    for name, module in embedder.model.named_children():
        setattr(model, name, module)
    return VideoToTextPipeline(model=model, processor=load_pretrained(AutoProcessor, folder), device=model.device)


def same_shapes(inputs: dict[str, Any]) -> tuple[Any, ...]:
    """Return what inputs must have in common to go through the model together.

    Args:
        inputs: of a `Reading`.
    """
    return tuple(np.shape(value.pixels if isinstance(value, RawPixels) else value) for value in inputs.values())
