"""Temporal grounding from raw videos: when what a sentence says is to be seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.inference.features import FeatureExtractor
from internvideo_hf.inference.pipeline import WholeVideoPipeline, check_saved_as
from internvideo_hf.inference.untrimmed import check_extractor, extract_features, extractor_for, resizing_of
from internvideo_hf.tasks.temporal_grounding.grounding import Grounder, text_encoder_of

TOP_K = 5


class VideoTemporalGroundingPipeline(WholeVideoPipeline):
    """Finds the stretches of videos that sentences ask for, with a head on features, such as a VSLNet.

    Args:
        feature_extractor: folder or Hub name of the encoder, or a `FeatureExtractor` of the same encoder with other
            windows than the head names; by default the encoder that the head names.
        text_encoder: folder or Hub name of the model of the words; by default the one that the head names.
        args: of `transformers.Pipeline`.
        kwargs: of `transformers.Pipeline`.

    >>> ground = pipeline("video-temporal-grounding", model=head)
    >>> ground("kitchen.mp4", query="where did I put the knife?", top_k=1)
    [{'start': 31.4, 'end': 35.0, 'score': ...}]
    """

    options = ("query", "top_k", "threshold")

    def __init__(
        self,
        *args: Any,
        feature_extractor: str | Path | FeatureExtractor | None = None,
        text_encoder: str | Path | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForTemporalGrounding")
        name = self.model.config._name_or_path or type(self.model).__name__
        encoder = text_encoder_of(self.model.config, text_encoder, name, device=self.device)
        self.grounder = Grounder(self.model, encoder)
        if isinstance(feature_extractor, FeatureExtractor):
            check_extractor(self.model.config, feature_extractor, name)
        else:
            feature_extractor = extractor_for(self.model.config, feature_extractor, name, device=self.device)
        self.extractor = feature_extractor

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find the stretches of one or several sentences in one or several videos; each video is read once.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline:

                - query (`str` or `list[str]`): the sentence, or several.
                - top_k (`int`): answers to a sentence, the best first; 5 by default.
                - threshold (`float`): least score of an answer, 0-1; 0 by default.

        Returns:
            For each video the answers to the sentence, `{"start", "end", "score"}` with times in seconds, the best
            first; with a list of sentences a list of such for each.

        Raises:
            VideoDecodeError: if a video cannot be read, or is shorter than a window.
            ValueError: if an option is invalid.
        """
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the head, whose configuration names its encoders.

        Args:
            save_directory: the folder.
            kwargs: options of saving the model, such as `push_to_hub`.
        """
        self.model.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self,
        query: str | Sequence[str] | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        chosen = self._best_answers(top_k, threshold, options)
        postprocess = {"threshold": chosen["threshold"]} if "threshold" in chosen else {}
        forward = {"top_k": chosen["top_k"]} if "top_k" in chosen else {}
        if query is not None:
            if isinstance(query, str):
                postprocess["is_one"] = True
            sentences = [query] if isinstance(query, str) else list(query)
            if not sentences or not all(isinstance(text, str) and text.strip() for text in sentences):
                raise ValueError(f"query={query!r}, expected a sentence, or a list of sentences.")
            forward["sentences"] = sentences
        return {}, forward, postprocess

    def preprocess(self, video: Any) -> dict[str, Any]:  # type: ignore[override]
        features = extract_features(self.extractor, video, **resizing_of(self.model.config))
        return {"features": features, "video": str(video)[:80]}

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], sentences: Sequence[str] = (), top_k: int = TOP_K
    ) -> dict[str, Any]:
        if not sentences:
            raise ValueError('Give the sentence to find, such as query="a dog jumps over a fence".')
        features, video = model_inputs["features"], model_inputs["video"]
        return {"found": self.grounder.ground(features, sentences, top_k, video)}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], threshold: float = 0.0, is_one: bool = False
    ) -> list[Any]:
        answers = [[answer._asdict() for answer in own if answer.score >= threshold] for own in model_outputs["found"]]
        return answers[0] if is_one else answers
