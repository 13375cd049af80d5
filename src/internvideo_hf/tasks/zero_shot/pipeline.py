"""Classification of videos by labels that the caller names."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange, reduce

from internvideo_hf.inference.embedder import CHUNK_SIZE, embed_texts
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.pipeline import DualEncoderPipeline, check_count
from internvideo_hf.inference.runner import cosine_scale, embed_views
from internvideo_hf.processing.post_process import zero_shot_scores
from internvideo_hf.recipes import PromptSet, load_prompts
from internvideo_hf.utils.names import lookup

DEFAULT_PROMPTS = PromptSet(("A video of {}.",))
KEPT_LABELS = 32
"""Lists of labels whose embeddings a pipeline keeps."""


class ZeroShotVideoClassificationPipeline(DualEncoderPipeline):
    """Zero-shot classification with any model of this package that embeds video and text in one space.

    >>> from transformers import pipeline
    >>> import internvideo_hf
    >>> classify = pipeline("zero-shot-video-classification", model=folder)
    >>> classify("clip.mp4", candidate_labels=["a dog runs", "a car stops"])
    [{'label': ..., 'score': ..., 'similarity': ...}, ...]
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any):
        self._weights: tuple[Any, ...] = ()
        self._embedded: dict[tuple[Any, ...], torch.Tensor] = {}  # the labels of the last calls, the latest last
        super().__init__(model, *args, **kwargs)

    def __call__(  # type: ignore[override]
        self, inputs: Any, **kwargs: Any
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Score the labels for one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline, `transformers.Pipeline` and the video processor:

                - candidate_labels (`list[str]`): the labels to choose from; a string is split at its commas.
                - hypothesis_template (`str`): the sentence around a label, `"A video of {}."` by default.
                - prompts (`str` or `list[str]`): several sentences around each label, instead of
                  `hypothesis_template`: the name of a set in `recipes/prompts.json` ("kinetics", or "viclip", whose
                  protocol cleans the sentences and averages cosines), or the sentences themselves.
                - top_k (`int`): number of labels to return, the best first; all by default.
                - num_clips (`int`): clips of each video; their scores are averaged.
                - batch_size (`int`): videos per forward pass, 1 by default.
                - max_views (`int`): views per forward pass; all of a batch by default.

        Returns:
            For each video a list of `{"label", "score", "similarity"}`, the best label first: `score` is a
            probability over the labels, `similarity` the mean cosine. One video gives one such list.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if an option is invalid.
        """
        answers: list[dict[str, Any]] | list[list[dict[str, Any]]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self,
        candidate_labels: str | Sequence[str] | None = None,
        hypothesis_template: str | None = None,
        prompts: str | Sequence[str] | None = None,
        top_k: int | None = None,
        max_views: int | None = None,
        **processor_options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        forward: dict[str, Any] = {}
        postprocess: dict[str, Any] = {}
        if candidate_labels is not None:
            forward["labels"] = postprocess["labels"] = _labels(candidate_labels)
        if hypothesis_template is not None and prompts is not None:
            raise ValueError("Pass hypothesis_template or prompts, not both.")
        if hypothesis_template is not None:
            forward["prompts"] = _prompt_set([hypothesis_template])
        if prompts is not None:
            forward["prompts"] = _prompt_set(prompts)
        if max_views is not None:
            forward["max_views"] = check_count("max_views", max_views)
        if top_k is not None:
            postprocess["top_k"] = check_count("top_k", top_k)
        return self._processor_parameters(processor_options), forward, postprocess

    def _forward(  # type: ignore[override]
        self,
        model_inputs: dict[str, torch.Tensor],
        labels: tuple[str, ...] = (),
        prompts: PromptSet = DEFAULT_PROMPTS,
        max_views: int | None = None,
    ) -> dict[str, torch.Tensor]:
        if not labels:
            raise ValueError("Pass candidate_labels, the labels to choose from.")
        pixels = model_inputs["pixel_values_videos"]
        scores, similarity = zero_shot_scores(
            embed_views(self.model, pixels, max_views).flatten(0, 1),
            self._embed_labels(labels, prompts),
            cosine_scale(self.model),
            prompts.mean_of,
        )
        return {
            name: reduce(value, "(b v) l -> b l", "mean", b=len(pixels))
            for name, value in (("scores", scores), ("similarity", similarity))
        }

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, torch.Tensor], labels: tuple[str, ...] = (), top_k: int | None = None
    ) -> list[dict[str, Any]]:
        scores, similarity = model_outputs["scores"].reshape(-1), model_outputs["similarity"].reshape(-1)
        check_finite(scores.numpy(), "A score")
        best = scores.argsort(descending=True, stable=True)[:top_k]
        return [
            {"label": labels[i], "score": scores[i].item(), "similarity": similarity[i].item()} for i in best.tolist()
        ]

    def embed_labels(self) -> None:
        """Embed the labels that the pipeline was made with, so that a wrong one is refused before any video.

        Raises:
            ValueError: if there are none, or a sentence with one of them is too long.
        """
        labels = self._forward_params.get("labels", ())
        if not labels:
            raise ValueError("Pass candidate_labels, the labels to choose from.")
        with self.device_placement(), torch.no_grad():
            self._embed_labels(labels, self._forward_params.get("prompts", DEFAULT_PROMPTS))

    def _embed_labels(self, labels: tuple[str, ...], prompts: PromptSet) -> torch.Tensor:
        """Embed every label in every template, `(templates, labels, dim)`, and keep the result for the next videos."""
        # A training step or `load_state_dict` may change the weights.
        weights = tuple((weight.data_ptr(), weight._version) for weight in self.model.parameters())
        if weights != self._weights:
            self._weights, self._embedded = weights, {}
        embedded = self._embedded.pop((labels, prompts), None)
        if embedded is None:
            texts = prompts.sentences(labels)
            embeds = embed_texts(self.model, self.processor, texts, progress=len(texts) > 3 * CHUNK_SIZE)
            embedded = rearrange(embeds.to(self.model.device), "(p l) d -> p l d", p=len(prompts.templates))
        self._embedded[labels, prompts] = embedded
        if len(self._embedded) > KEPT_LABELS:
            del self._embedded[next(iter(self._embedded))]
        return embedded


def _labels(labels: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(label.strip() for label in (labels.split(",") if isinstance(labels, str) else labels))
    if not names or not all(names):
        raise ValueError(f"candidate_labels is {list(names)}, expected at least one label and no empty one.")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"candidate_labels names {', '.join(sorted(repeated))} twice; name each label once.")
    return names


def _prompt_set(prompts: str | Sequence[str]) -> PromptSet:
    if isinstance(prompts, str):
        return lookup(load_prompts(), prompts, "prompts")
    if not prompts:
        raise ValueError("prompts must hold at least one template.")
    for template in prompts:
        if template.count("{}") != 1:
            raise ValueError(f"The template {template!r} must hold {{}} once, in the place of the label.")
    return PromptSet(tuple(prompts))
