"""From a raw video to the actions in it: features by an encoder, segments by a head, names by a classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.features import feature_rule
from internvideo_hf.data.finding import video_id
from internvideo_hf.inference import untrimmed
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.features import gaps_of, read_description, stretches
from internvideo_hf.inference.untrimmed import VideoFeatures, filled, some_known
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.tasks.temporal_localization.annotations import ONE_CLASS, read_class_scores
from internvideo_hf.tasks.temporal_localization.decoding import (
    Detections,
    Fusion,
    decoding_of,
    detect,
    fuse_class_scores,
)
from internvideo_hf.tasks.temporal_localization.proposals import Proposals
from internvideo_hf.tasks.temporal_localization.refinement import check_step, refine_proposals, refines


class Action(NamedTuple):
    """One action of a video.

    Args:
        label: its class.
        score: 0-1.
        start: where it begins, in seconds.
        end: where it ends, in seconds.
    """

    label: str
    score: float
    start: float
    end: float


@dataclass(frozen=True)
class Localization:
    """The actions of one video.

    Args:
        actions: the best first.
        duration: of the video in seconds.
        gaps: stretches that nothing is known of, since they are damaged, `[start, end]` in seconds.
    """

    actions: Sequence[Action]
    duration: float | None
    gaps: Sequence[Sequence[float]] = ()

    def best(self, top_k: int | None = None, min_score: float = 0.0) -> "Localization":
        """Return the best actions only.

        Args:
            top_k: actions to keep; all if None.
            min_score: least score, 0-1.
        """
        kept = [action for action in self.actions if action.score >= min_score]
        return Localization(kept[:top_k], self.duration, self.gaps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain objects, as pipelines and JSON have them."""
        segments = [action._asdict() for action in self.actions]
        return {"duration": self.duration, "segments": segments, "gaps": [list(gap) for gap in self.gaps]}


# ---- features -------------------------------------------------------------------------------------------------------


def read_given(path: Path, config: PreTrainedConfig, video: str, **timing: float | None) -> VideoFeatures:
    """Read features that a user names; see `internvideo_hf.inference.untrimmed.read_given`.

    Args:
        path: see there.
        config: of the head.
        video: whose they are.
        timing: `stride`, `fps` and `window`.

    Raises:
        ValueError: also if the head refines segments, and its samples are not the features' distance apart.
        ManifestError: if the file cannot be read.
        VideoDecodeError: if the video cannot be read, whose duration counts.
    """
    found = untrimmed.read_given(path, config, video, **timing)
    given = timing.get("stride") is not None and timing.get("fps") is not None
    facts = None if given else read_description(path)
    if facts and refines(config) and not feature_rule(getattr(config, "features", None)).get("stride"):
        check_step(config, facts)
    return found


# ---- classes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassScorer:
    """What names the segments of a head without classes: the class scores of whole videos.

    Args:
        classes: names.
        scores: (video, the stretch to judge it by in seconds, None for all of it) -> `(classes,)`.
    """

    classes: Sequence[str]
    scores: Callable[[str, Sequence[float] | None], NDArray[np.float64]]

    @classmethod
    def open(
        cls,
        source: str | Path,
        labels: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> "ClassScorer":
        """Open a video classifier of this package, or a file of its scores.

        Args:
            source: folder or Hub name of a classifier, or `.json`, see `read_class_scores`.
            labels: names of the classes of a file; their numbers by default.
            device: where a classifier runs.
            dtype: number type of a classifier.

        Raises:
            ValueError: if it is not a classifier, or the names do not fit the scores.
            ManifestError: if the file is invalid.
        """
        if str(source).lower().endswith(".json"):
            return cls._of_file(Path(source), labels)
        if labels is not None:
            raise ValueError(f"{source} has names of its classes: leave out the labels (--labels-file).")
        classifier = Classifier.load(source, device=device, dtype=dtype)

        def scores(video: str, stretch: Sequence[float] | None) -> NDArray[np.float64]:
            row = {"video": video} | ({} if stretch is None else {"start": stretch[0], "end": stretch[1]})
            views = {name: pixels[None] for name, pixels in classifier.views_of(row).items()}
            found: NDArray[np.float64] = classifier.probabilities(views)[0]
            return found

        return cls(classifier.classes, scores)

    @classmethod
    def _of_file(cls, path: Path, labels: Sequence[str] | None) -> "ClassScorer":
        known = read_class_scores(path)
        count = max(map(len, known.values()), default=0)
        if labels is not None and len(labels) != count:
            raise ValueError(f"{path} has scores of {count} classes, and there are {len(labels)} labels.")

        def scores(video: str, stretch: Sequence[float] | None) -> NDArray[np.float64]:
            name = video_id(video)
            for key in (name, name.removeprefix("v_"), f"v_{name}", Path(video).name):
                if key in known:
                    return known[key]
            raise ValueError(f"{path} has no scores of {name}. Classify the video, or leave out the classifier.")

        return cls(labels or [f"class {number}" for number in range(count)], scores)


# ---- the head -------------------------------------------------------------------------------------------------------


class Localizer:
    """A head on features that localizes actions, and names them.

    Args:
        model: an ActionFormer, or a TCANet, on its device.
        scorer: gives the segments the classes that it finds in the video, in place of the head's own; None for those.
        fusion: how; by default as the head's configuration says.
        proposals: segments of another model, for a head that refines them, such as a TCANet. Those of several classes
            keep them, unless a scorer gives others.

    Raises:
        ValueError: if the head refines proposals and there are none, or the other way round.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        scorer: ClassScorer | None = None,
        fusion: Fusion | None = None,
        proposals: Proposals | None = None,
    ):
        config = model.config
        if refines(config) and proposals is None:
            raise ValueError(
                f"{type(model).__name__} refines the segments of another model. Give them (proposals, --proposals), "
                "or a head that localizes by itself, such as an ActionFormer."
            )
        if proposals is not None and not refines(config):
            raise ValueError(f"{type(model).__name__} localizes by itself. Leave out the proposals (--proposals).")
        decoding_of(config)  # before the first video
        self.model, self.scorer, self.proposals = model.eval(), scorer, proposals
        self._fusion = fusion or Fusion(**(getattr(config, "fusion", None) or {}))
        names = classes_of(config) if proposals is None else list(proposals.classes)
        self.classes = [ONE_CLASS] if names in ([], ["LABEL_0"]) else names

    def localize(self, features: VideoFeatures, video: str = "") -> Localization:
        """Localize the actions of a video.

        Args:
            features: of the video.
            video: for the classifier, which reads it, and for the proposals.

        Raises:
            VideoDecodeError: if the classifier cannot read the video.
            ValueError: if the classifier's file does not know it.
            ManifestError: if it has no proposals.
        """
        found = self.detect(features) if self.proposals is None else self.refine(features, video)
        found = found._replace(segments=features.in_seconds(found.segments))
        gaps, classes = gaps_of(features.rows, features.seconds), self.classes
        if self.scorer is not None:
            classes = list(self.scorer.classes)
            found = fuse_class_scores(
                found, self.scorer.scores(video, _longest(gaps, features.duration)), self._fusion
            )
        order = found.scores.argsort(descending=True, stable=True)
        segments, scores, labels = (tensor[order].tolist() for tensor in found)
        actions = [
            Action(classes[label], score, start, end)
            for (start, end), score, label in zip(segments, scores, labels, strict=True)
        ]
        return Localization(actions, features.duration, gaps)

    def refine(self, features: VideoFeatures, video: str) -> Detections:
        """Return refined proposals in steps of the grid, best first; features of damaged windows are interpolated.

        Args:
            features: of the video.
            video: whose proposals are taken.

        Raises:
            ManifestError: if it has none.
        """
        assert self.proposals is not None
        found = self.proposals.of(video, features.duration)
        rows = filled(some_known(video, features.rows))
        return refine_proposals(self.model, rows, found._replace(segments=features.on_grid(found.segments)))

    @torch.no_grad()
    def detect(self, features: VideoFeatures) -> Detections:
        """Return segments in steps of the grid, best first; each whole stretch of a video is one sequence.

        Args:
            features: of the video.
        """
        config, rows = self.model.config, features.rows
        found = [Detections(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.long))]
        device, reach = self.model.device, features.grid.num_frames / 2 / features.grid.stride
        for first, last in stretches(~rows.isnan().any(dim=1)):  # one by one: each takes the memory of a padded video
            outputs = self.model(rows[None, first:last].to(device, self.model.dtype))
            (one,) = detect(outputs.logits, outputs.offsets, outputs.masks, config)
            # A segment ends with the windows of its stretch; the gap is behind them.
            start = first - reach if first else None
            end = last - 1 + reach if last < len(rows) else None
            segments = (one.segments + first).clamp(start, end) if first or last < len(rows) else one.segments
            kept = segments[:, 1] > segments[:, 0] if first or last < len(rows) else slice(None)
            found.append(Detections(segments[kept], one.scores[kept], one.labels[kept]))
        # Segments of different stretches do not overlap, so none of them suppresses another.
        merged = Detections(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        order = merged.scores.argsort(descending=True, stable=True)[: config.suppression["max_segments"]]
        return Detections(*(tensor[order] for tensor in merged))


def _longest(gaps: Sequence[Sequence[float]], duration: float | None) -> Sequence[float] | None:
    """Return the longest stretch between gaps; None where there is no gap."""
    if not gaps or duration is None:
        return None
    bounds = [0.0, *(time for gap in gaps for time in gap), duration]
    return max(zip(bounds[::2], bounds[1::2], strict=True), key=lambda span: span[1] - span[0])
