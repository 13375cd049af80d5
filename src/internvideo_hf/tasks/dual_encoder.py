"""Shared evaluation of dual encoders: videos and texts, embedded as a protocol says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig

from internvideo_hf.inference.embedder import Embedder, pixel_settings
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import Protocol, Run, Samples, model_facts
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import load_pretrained

FACTORS = ("model", "one")
SETTINGS = ("text_length", "merge", "factor")  # that every evaluation of dual encoders reads


def check_dual_encoder_protocol(protocol: Protocol) -> None:
    """Refuse a protocol whose values do not suit a dual encoder.

    Raises:
        RecipeError: if they do not.
    """
    check_name(protocol.factor, FACTORS, "factor", RecipeError)
    if protocol.family is None or protocol.model is None:
        raise RecipeError("family or model is missing: set them to the released model of the protocol.")
    if protocol.text_length is None or protocol.text_length < 3:
        raise RecipeError(f"text_length is {protocol.text_length}, expected at least 3.")


def view_facts(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the report's line about several views of a video; none for one view."""
    clips, crops = result["model"].get("views", (1, 1))
    return {} if clips * crops == 1 else {"views": f"{clips} clips x {crops} crops"}


@dataclass(frozen=True)
class VideoEmbeddings:
    """The embedded videos of a list, and the model to embed its texts.

    Args:
        protocol: of the evaluation.
        embedder: the model.
        vectors: unit vectors, `(videos, dim)`, or `(videos, views, dim)` before merging; zero for an unreadable
            video.
        causes: the cause for each unreadable video, by its number.
        quiet: no progress bars.
    """

    protocol: Protocol
    embedder: Embedder
    vectors: torch.Tensor
    causes: dict[int, str]
    quiet: bool

    @classmethod
    def compute(cls, protocol: Protocol, samples: Samples, run: Run, merge: bool = True) -> "VideoEmbeddings":
        """Load the model, and embed the videos.

        Args:
            protocol: pixels, and the limits of texts.
            samples: the videos.
            run: the model and the settings.
            merge: merge the views of a video.

        Raises:
            RecipeError: if the protocol is for other models.
            TooManyFailuresError: if too many videos are unreadable.
        """
        family = load_pretrained(AutoConfig, run.model).model_type
        if family != protocol.family:
            raise RecipeError(
                f"This protocol is for {protocol.family}, and {run.model} holds {family}. Choose another protocol of "
                f"`internvideo evaluate --list`, or set family={family} to run this one."
            )
        embedder = Embedder(run.model, run.device, protocol.pixels | protocol.views, protocol.dtype)
        if embedder.processor is None or embedder.text_problem is not None:
            raise RecipeError(f"{run.model}: {embedder.text_problem}")
        longest = embedder.processor.tokenizer.model_max_length
        if protocol.text_length is not None and protocol.text_length > longest:
            raise RecipeError(
                f"text_length is {protocol.text_length}, but {run.model} reads at most {longest} tokens. Set "
                f"text_length={longest} to cut longer texts."
            )
        parts = run.parts_of(embedder.model, _facts_of(embedder), merge, [dict(row) for row in samples.videos])
        vectors, causes = embedder.embed_videos(samples.videos, run.settings, merge, parts)
        return cls(protocol, embedder, vectors.nan_to_num(), causes, run.settings.quiet)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the model and its views, for a result."""
        return _facts_of(self.embedder)

    @property
    def factor(self) -> float:
        """The factor of the cosine."""
        return self.embedder.logit_scale if self.protocol.factor == "model" else 1.0

    def embed_texts(self, texts: Sequence[str], rule: str | None) -> torch.Tensor:
        """Embed texts, cut at the protocol's length: unit vectors, `(texts, dim)`.

        Args:
            texts: one or more.
            rule: cleaning beforehand, a name in `internvideo_hf.recipes.captions`; None for none.
        """
        if rule is not None:
            texts = [clean_caption(text, rule) for text in texts]
        return self.embedder.embed_texts(texts, self.protocol.text_length, truncation=True, progress=not self.quiet)

    def without_failures(self, samples: Samples, scores: torch.Tensor) -> NDArray[np.float64]:
        """Return scores `(rows, choices)`, float64, with NaN in the rows of unreadable videos."""
        failed = np.isin(samples.owners, list(self.causes))
        return np.where(failed[:, None], np.nan, scores.double().numpy())


def _facts_of(embedder: Embedder) -> dict[str, Any]:
    videos = embedder.video_processor
    views = [videos.num_clips, videos.num_crops]
    return {**model_facts(embedder.model), "views": views, "pixels": pixel_settings(videos)}
