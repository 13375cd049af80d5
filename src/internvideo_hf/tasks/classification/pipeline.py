"""Classification by several clips and crops of each video, as in the published tests."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from transformers import VideoClassificationPipeline
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.model_names import resolve_known
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.merging import FUNCTIONS, METHODS, check_finite, class_scores
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.observer import Observer
from internvideo_hf.inference.open_set.scorer import UNKNOWN, OpenSetScorer
from internvideo_hf.inference.pipeline import VideoPipeline, check_count, inputs_of
from internvideo_hf.inference.runner import logits_of_views
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.exported.modeling import ExportedClassifier
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.processing.video_processing import list_videos
from internvideo_hf.utils.names import lookup


class OpenSet(NamedTuple):
    """A scorer of unknown videos, and the observer of its inputs.

    Args:
        scorer: fitted for the pipeline's model.
        observer: of what it reads.
    """

    scorer: OpenSetScorer
    observer: Observer


def with_unknown(
    answers: list[dict[str, Any]], scorer: OpenSetScorer, outputs: dict[str, torch.Tensor]
) -> list[dict[str, Any]]:
    """Return the answers for a video with that of "unknown", first if it is unknown, or else last.

    Args:
        answers: the classes, the best first.
        scorer: of unknown videos.
        outputs: fields of `Observations` of this one video, by name.
    """
    axes = {"logits": 2, "features": 2, "samples": 3}
    seen = Observations(**{name: tensor.reshape(1, *tensor.shape[-axes[name] :]) for name, tensor in outputs.items()})
    uncertainty = scorer.score(seen)
    entry = {
        "label": UNKNOWN,
        "score": scorer.rank(uncertainty).item(),
        "uncertainty": uncertainty.item(),
        "threshold": scorer.threshold,
    }
    return [entry, *answers] if scorer.is_unknown(uncertainty).item() else [*answers, entry]


class MultiViewVideoClassificationPipeline(VideoPipeline):
    """Classifies `num_clips x num_crops` views of each video, and merges their scores.

    transformers' own "video-classification" takes one clip of each video.

    >>> classify = pipeline("multi-view-video-classification", model=folder, num_clips=5, num_crops=3)
    >>> classify("clip.mp4", top_k=1)
    [{'label': 'riding a bike', 'score': ...}]
    """

    _load_video_processor = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        has_head = hasattr(self.model, "classifier") or isinstance(self.model, ExportedClassifier)
        if not getattr(self.model.config, "id2label", None) or not has_head:
            raise ValueError(
                f"{type(self.model).__name__} is not a classifier: convert a fine-tuned checkpoint, or load one with "
                "AutoModelForVideoClassification."
            )

    def __call__(  # type: ignore[override]
        self, inputs: Any, **kwargs: Any
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Classify one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline, `transformers.Pipeline` and the video processor:

                - num_clips, num_crops (`int`): views of each video; by default those of the model's released test, if
                  conversion saved them, or else as the processor is configured.
                - merge (`str`): "prob" averages probabilities (the default, as published), "score" averages logits.
                - function_to_apply (`str`): "softmax", "sigmoid" or "none", from logits to scores; by default that of
                  `config.problem_type`: "sigmoid" for "multi_label_classification", "none" for "regression".
                - top_k (`int`): number of labels to return, the best first; 5 by default.
                - batch_size (`int`): videos per forward pass, with all their views; 1 by default.
                - max_views (`int`): views per forward pass; all of a batch by default.
                - open_set (`str`): folder of a scorer that `internvideo calibrate` has fitted for this model, or a
                  model's folder or name on the Hub that holds one; none by default. The views are those of its fit.

        Returns:
            For each video a list of `{"label", "score"}`, the best first; scores are probabilities, with
            `merge="score"` those of the mean logits. One video gives one such list. Of a model with several heads
            (`config.label_heads`) it has the `top_k` labels of each, such as "verb: cut", head after head.
            With `open_set`, one entry more has the label "unknown", and stands first if the video shows none of the
            classes, last otherwise: `score` is the fraction of known videos that are better known, `uncertainty` the
            score of the method, and `threshold` the one above which a video is unknown.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if an option is invalid.
        """
        answers: list[dict[str, Any]] | list[list[dict[str, Any]]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        merge: str | None = None,
        max_views: int | None = None,
        function_to_apply: str | None = None,
        open_set: str | Path | None = None,
        **processor_options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        postprocess: dict[str, Any] = {} if top_k is None else {"top_k": check_count("top_k", top_k)}
        if merge is not None:
            lookup(METHODS, merge, "merge")
            postprocess["merge"] = merge
        if function_to_apply is not None:
            lookup(FUNCTIONS, function_to_apply, "function_to_apply")
            postprocess["function_to_apply"] = function_to_apply
        forward: dict[str, Any] = {} if max_views is None else {"max_views": check_count("max_views", max_views)}
        preprocess = self._processor_parameters(processor_options, ["open_set", "merge", "max_views"])
        if open_set is not None:
            preprocess["open_set"] = self._open(str(open_set))
            forward["observer"], postprocess["scorer"] = preprocess["open_set"].observer, preprocess["open_set"].scorer
        return preprocess, forward, postprocess

    def _open(self, source: str) -> "OpenSet":
        """Return a scorer for this model, the same one for the same source."""
        opened: dict[str, OpenSet] = self.__dict__.setdefault("_opened", {})
        if source not in opened:
            scorer = OpenSetScorer.load(resolve_known(source))
            views = self._process.views if scorer.subject is None else scorer.subject.views or self._process.views
            classifier = Classifier(str(self.model.name_or_path), self.model, self._process, *views)
            observer = Observer.of(classifier, scorer.method)
            scorer.check(observer.subject)
            opened[source] = OpenSet(scorer, observer)
        return opened[source]

    def preprocess(  # type: ignore[override]
        self, video: Any, open_set: "OpenSet | None" = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        views = self._views(open_set, options)
        found = super().preprocess(video, **views)
        if open_set is not None:
            asked = (views["num_clips"], views["num_crops"])
            open_set.scorer.check(replace(open_set.observer.subject, views=asked))
            found |= open_set.observer.read_members({"video": video})
        return found

    def _views(self, open_set: "OpenSet | None", options: Mapping[str, Any]) -> dict[str, Any]:
        clips, crops = self._process.views if open_set is None else known(open_set.observer.subject.views)
        return {"num_clips": clips, "num_crops": crops, **options}

    def video_reader(self) -> Callable[[Any], dict[str, torch.Tensor]] | None:
        """Return what makes the inputs of a video, in any process; None for an open set, whose models read them."""
        options = self._preprocess_params
        if "open_set" in options:
            return None
        return partial(inputs_of, processor=self._process, options=self._views(None, options))

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, torch.Tensor], max_views: int | None = None, observer: Observer | None = None
    ) -> dict[str, torch.Tensor]:
        if observer is not None:
            return observer.answers(model_inputs, max_views)
        videos = len(model_inputs["pixel_values_videos"])
        views = {name: rearrange(clips, "b v t c h w -> (b v) t c h w") for name, clips in model_inputs.items()}
        logits = logits_of_views(self.model, views, max_views)
        return {"logits": rearrange(logits, "(b v) k -> b v k", b=videos)}

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, torch.Tensor],
        top_k: int = 5,
        merge: str = "prob",
        function_to_apply: str | None = None,
        scorer: OpenSetScorer | None = None,
    ) -> list[dict[str, Any]]:
        config = self.model.config
        views = model_outputs["logits"].double().numpy().reshape(-1, len(classes_of(config)))
        to_scores = partial(
            class_scores, problem_type=config.problem_type, heads=head_slices(config), function=function_to_apply
        )
        if merge == "score":
            scores = to_scores(views.mean(axis=0))
        else:
            scores = np.mean([to_scores(logits) for logits in views], axis=0)
        check_finite(scores, "A score")
        answers = best_labels(scores, config, top_k)
        return answers if scorer is None else with_unknown(answers, scorer, model_outputs)


def best_labels(scores: np.ndarray[Any, Any], config: PreTrainedConfig, top_k: int) -> list[dict[str, Any]]:
    """Return the best labels with their scores, the best first; of several heads, those of one after the other.

    Args:
        scores: `(classes,)`.
        config: of the classifier.
        top_k: number of labels, of each head.
    """
    classes, found = classes_of(config), []
    for place in head_slices(config).values() or (slice(None),):
        numbers = np.arange(len(classes))[place]
        best = numbers[np.argsort(-scores[place], kind="stable")[:top_k]]
        found += [{"label": classes[number], "score": float(scores[number])} for number in best]
    return found


class BatchedVideoClassificationPipeline(VideoClassificationPipeline):
    """transformers' own "video-classification", with batches, columns of `datasets` and saving for our models."""

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Classify videos; see transformers.

        Args:
            inputs: one video, or a list, an iterator, a column or a dataset of videos; see `list_videos`.
            kwargs: see there.
        """
        if not self._is_ours:
            return super().__call__(inputs, **kwargs)
        videos, is_one = list_videos(inputs)
        answers = super().__call__(videos, **kwargs) if videos else []
        return answers[0] if is_one else answers

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, top_k: int = 5, function_to_apply: str | None = None
    ) -> Any:
        """Return the best labels, of several heads those of each; see transformers."""
        config = self.model.config
        if not self._is_ours or not (heads := head_slices(config)):
            stock: Any = super()
            return stock.postprocess(model_outputs, top_k=top_k, function_to_apply=function_to_apply)
        scores = class_scores(model_outputs.logits[0].double().numpy(), None, heads, function_to_apply)
        return best_labels(scores, config, top_k)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save all that `pipeline("video-classification", model=save_directory)` loads.

        Args:
            save_directory: the folder.
            kwargs: see transformers.
        """
        super().save_pretrained(save_directory, **kwargs)
        if self._is_ours:  # transformers leaves the video processor out
            self.video_processor.save_pretrained(save_directory)  # type: ignore[union-attr]

    @property
    def _is_ours(self) -> bool:
        return self.model.config.model_type in FAMILIES

    def get_iterator(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_ours:
            return super().get_iterator(*args, **kwargs)
        # transformers refuses to batch what neither a tokenizer, a feature extractor nor an image processor has made.
        before, self.feature_extractor = self.feature_extractor, self.video_processor  # type: ignore[assignment]
        try:
            return super().get_iterator(*args, **kwargs)
        finally:
            self.feature_extractor = before
