"""Temporal localization from raw videos: which actions happen, and when each begins and ends."""

from pathlib import Path
from typing import Any

from internvideo_hf.inference.features import FeatureExtractor
from internvideo_hf.inference.pipeline import WholeVideoPipeline, check_saved_as
from internvideo_hf.inference.untrimmed import (
    VideoFeatures,
    check_extractor,
    extract_features,
    extractor_for,
    resizing_of,
)
from internvideo_hf.tasks.temporal_localization.localization import ClassScorer, Localizer
from internvideo_hf.tasks.temporal_localization.proposals import read_proposals


class TemporalActionLocalizationPipeline(WholeVideoPipeline):
    """Finds the actions of videos with a head on features, such as an ActionFormer.

    Args:
        feature_extractor: folder or Hub name of the encoder, or a `FeatureExtractor` of the same encoder with other
            windows than the head names; by default the encoder that the head names.
        classifier: folder or Hub name of a video classifier, or a JSON file of its scores, which names the segments.
        proposals: file or folder of the segments of another model, for a head that refines them, such as a TCANet; see
            `read_proposals`. Inputs must be files or addresses, by whose names they are found.
        args: of `transformers.Pipeline`.
        kwargs: of `transformers.Pipeline`.

    >>> localize = pipeline("temporal-action-localization", model=head, feature_extractor=encoder)
    >>> localize("match.mp4", top_k=1)
    {'duration': 93.2, 'segments': [{'label': 'high jump', 'score': ..., 'start': 31.4, 'end': 35.0}], 'gaps': []}
    """

    def __init__(
        self,
        *args: Any,
        feature_extractor: str | Path | FeatureExtractor | None = None,
        classifier: str | Path | None = None,
        proposals: str | Path | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForTemporalLocalization")
        scorer = None if classifier is None else ClassScorer.open(classifier, device=self.device)
        known = None if proposals is None else read_proposals(proposals)
        self.localizer = Localizer(self.model, scorer, proposals=known)
        name = self.model.config._name_or_path or type(self.model).__name__
        if isinstance(feature_extractor, FeatureExtractor):
            check_extractor(self.model.config, feature_extractor, name)
        else:
            feature_extractor = extractor_for(self.model.config, feature_extractor, name, device=self.device)
        self.extractor = feature_extractor

    def __call__(self, inputs: Any, **kwargs: Any) -> dict[str, Any] | list[dict[str, Any]]:  # type: ignore[override]
        """Localize the actions of one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes; with a classifier, files.
            **kwargs: options of the pipeline:

                - top_k (`int`): segments to return, the best first; all by default.
                - threshold (`float`): least score of a segment, 0-1; 0 by default.

        Returns:
            For each video its `duration` in seconds, `segments`, a list of `{"label", "score", "start", "end"}` in
            seconds, the best first, and `gaps`, `[start, end]` of each stretch that is damaged.

        Raises:
            VideoDecodeError: if a video cannot be read, or is shorter than a window.
            ValueError: if an option is invalid.
        """
        answers: dict[str, Any] | list[dict[str, Any]] = super().__call__(inputs, **kwargs)
        return answers

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the head, whose configuration names its encoder.

        Args:
            save_directory: the folder.
            kwargs: options of saving the model, such as `push_to_hub`.
        """
        self.model.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, threshold: float | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, self._best_answers(top_k, threshold, options)

    def preprocess(self, video: Any) -> dict[str, Any]:  # type: ignore[override]
        features = extract_features(self.extractor, video, **resizing_of(self.model.config))
        return {"video": video, "features": features}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        features: VideoFeatures = model_inputs["features"]
        video = model_inputs["video"]
        return {"found": self.localizer.localize(features, str(video) if isinstance(video, Path) else video)}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], top_k: int | None = None, threshold: float = 0.0
    ) -> dict[str, Any]:
        answer: dict[str, Any] = model_outputs["found"].best(top_k, threshold).to_dict()
        return answer
