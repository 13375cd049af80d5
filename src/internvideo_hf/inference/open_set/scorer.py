"""Scorers of unknown videos: a method, its threshold, and the classifier that it was fitted for."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.open_set.methods import Method, make_method
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.thresholds import find_threshold
from internvideo_hf.inference.runner import cast_of
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import classes_of, load_strict
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.fingerprints import tensors_sha256
from internvideo_hf.utils.names import reason_of

SETTINGS, TENSORS = "open_set.json", "open_set.safetensors"
FOLDER = "open_set"
"""Folder of a scorer in that of its model."""
UNKNOWN = "unknown"
"""Label of a video that shows none of the classes."""


@dataclass(frozen=True)
class Subject:
    """The classifier that a scorer is fitted for.

    Args:
        fingerprint: hash of the model's weights.
        classes: names of its classes, in order.
        views: clips and crops of each video; None where they are not known.
    """

    fingerprint: str
    classes: Sequence[str]
    views: tuple[int, int] | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, views: tuple[int, int] | None = None) -> "Subject":
        """Return what identifies a classifier. The number type in which it runs does not count.

        Args:
            model: a classifier.
            views: clips and crops of each video.

        Raises:
            ValueError: if it has one class, or gives several classes at once.
        """
        config = model.config
        classes = classes_of(config)
        heads = getattr(config, "label_heads", None)
        if len(classes) < 2 or heads or config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"A classifier of {len(classes)} classes with problem_type={config.problem_type!r} and label_heads="
                f"{list(heads or [])} does not choose one of several classes, as open-set recognition needs. Give one "
                "of two classes or more."
            )
        if isinstance(model, ExportedModel):
            return cls(f"sha256:{model.manifest.identity[:32]}", classes, views)
        as_saved = model if cast_of(model) is None else load_strict(type(model), str(model.name_or_path))
        return cls(f"sha256:{tensors_sha256(as_saved.state_dict())[:32]}", classes, views)


class OpenSetScorer:
    """Scores how unknown videos are to a classifier, and rejects those above a threshold.

    >>> scorer = OpenSetScorer("energy").fit(validation)
    >>> scorer.is_unknown(scorer.score(logits))

    Args:
        method: a name in `internvideo_hf.inference.open_set.methods.METHODS`.
        accepted: fraction of known videos that are to be taken as known, above 0, at most 1.
        rule: which of their scores becomes the threshold, a name in `thresholds.RULES`.
        options: of the method.

    Attributes:
        method: with what it has found.
        threshold: a video with a higher score is unknown; None before `fit`.
        known_scores: those of the known videos, ascending.
        subject: what it was fitted for; None where that is not known.

    Raises:
        ValueError: if a name is unknown, or a value is out of range.
    """

    def __init__(self, method: str = "max_softmax", *, accepted: float = 0.95, rule: str = "accepted", **options: Any):
        self.name, self.accepted, self.rule = method, accepted, rule
        self.method: Method = make_method(method, **options)
        find_threshold(np.zeros(1), accepted, rule)  # refuses invalid values
        self.threshold: float | None = None
        self.known_scores: NDArray[np.float64] = np.zeros(0)
        self.subject: Subject | None = None

    def fit(self, validation: Observations, subject: Subject | None = None) -> "OpenSetScorer":
        """Find what the method needs, and the threshold; returns the scorer.

        A method that learns a last layer is fitted to half of the videos, and scores the other half for the
        threshold: it would take those that it has seen for better known than new ones. The layer that is kept is
        learned from all.

        Args:
            validation: known videos that the model was not trained on.
            subject: the classifier; None skips the checks by `check`.

        Raises:
            ValueError: if there are no videos, all are of one class, labels are missing or out of range, or the method
                needs other answers.
        """
        self._check_validation(validation)
        halves = [self._score_halves(validation)] if self.method.learns else []
        self.method.fit(validation)
        scores = halves[0] if halves else self.score(validation)
        self.known_scores = np.sort(np.asarray(scores))
        self.threshold = find_threshold(self.known_scores, self.accepted, self.rule)
        self.subject = subject
        return self

    def _score_halves(self, validation: Observations) -> NDArray[np.float64]:
        """Return the score of each video by the method fitted to the other half; each class is divided evenly."""
        labels = np.asarray(validation.labels)
        order = np.argsort(labels, kind="stable")
        halves, scores = (order[::2], order[1::2]), np.zeros(len(labels))
        for own, other in (halves, halves[::-1]):
            self.method.fit(validation.of(torch.from_numpy(other.copy())))
            scores[own] = np.asarray(self.score(validation.of(torch.from_numpy(own.copy()))))
        return scores

    def _check_validation(self, validation: Observations) -> None:
        if len(validation) < 2:
            raise ValueError(
                f"The validation list has {len(validation)} readable videos, expected two or more. Give known videos "
                "that the model was not trained on."
            )
        self._check_readable(validation, ("logits",) if self.method.needs_labels else ())
        labels, logits = validation.labels, validation.logits
        if labels is None:
            if self.method.needs_labels:
                raise ValueError(f"The method {self.name} learns from labels, and the validation list has none.")
            return
        if logits is not None and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[-1]:
            raise ValueError(
                f"Labels go from {int(labels.min())} to {int(labels.max())}, expected 0 to {logits.shape[-1] - 1}. "
                "Give the list of the model's own classes."
            )
        if (labels == labels[0]).all():
            raise ValueError(
                f"All {len(labels)} videos of the validation list are of class {int(labels[0])}: a threshold by one "
                "class says nothing of the others. Give videos of all classes."
            )

    def _check_readable(self, seen: Observations, also: Sequence[str] = ()) -> None:
        needed = {*self.method.reads, *also}
        if missing := sorted(needed - seen.tensors().keys()):
            raise ValueError(
                f"The method {self.name} reads {' and '.join(sorted(needed))}, and got {', '.join(seen.tensors())}: "
                f"{' and '.join(missing)} missing. Pass them too."
            )

    def score(
        self,
        logits: Tensor | Observations | None = None,
        features: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """Return how unknown videos are, float64, `(videos,)`; higher is less known.

        Args:
            logits: `(videos, classes)` or `(videos, views, classes)`; or all of it as `Observations`.
            features: input of the model's `classifier`, `(videos, dim)` or `(videos, views, dim)`.
            samples: logits of random passes or of members, `(videos, passes, classes)` or `(videos, views, passes,
                classes)`.

        Raises:
            ValueError: if shapes do not fit, a number is not finite, the method needs other answers or to be fitted.
        """
        if isinstance(logits, Observations):
            seen = logits
        else:
            given = {"logits": (logits, 3), "features": (features, 3), "samples": (samples, 4)}
            tensors = {name: (tensor, axes) for name, (tensor, axes) in given.items() if tensor is not None}
            seen = Observations(
                **{name: tensor[:, None] if tensor.ndim < axes else tensor for name, (tensor, axes) in tensors.items()}
            )
        self._check_readable(seen)
        if self.method.needs_labels and not self.method.tensors:
            raise ValueError(f"The method {self.name} is not fitted. Call fit with known videos first.")
        if self.subject is not None and seen.logits is not None:
            self._check_count(seen.logits.shape[-1])
        scores = self.method.score(seen)
        check_finite(scores.numpy(), "A score of the open-set scorer")
        return scores

    def is_unknown(self, scores: Tensor) -> Tensor:
        """Return which videos show none of the classes, bool, `(videos,)`.

        Args:
            scores: of `score`.
        """
        return scores > self._fitted_threshold

    def rank(self, scores: Tensor) -> Tensor:
        """Return the fraction of known videos with a lower score, 0-1, `(videos,)`: what a score means.

        Args:
            scores: of `score`.
        """
        self._fitted_threshold  # noqa: B018  # refuses an unfitted scorer
        places = np.searchsorted(self.known_scores, scores.numpy(), side="left")
        return torch.from_numpy(places / len(self.known_scores))

    @property
    def _fitted_threshold(self) -> float:
        if self.threshold is None:
            raise ValueError("The scorer has no threshold. Call fit with known videos first.")
        return self.threshold

    def _check_count(self, classes: int) -> None:
        if self.subject is not None and classes != len(self.subject.classes):
            raise ValueError(
                f"The scorer was fitted for {len(self.subject.classes)} classes, and got {classes}. Fit one for this "
                "model: `internvideo calibrate MODEL val.csv`."
            )

    def check(self, subject: Subject) -> None:
        """Refuse a classifier that the scorer was not fitted for.

        Args:
            subject: the classifier.

        Raises:
            ValueError: if weights, classes or views differ.
        """
        own, again = self.subject, "Fit one for this model: `internvideo calibrate MODEL val.csv`."
        if own is None:
            return
        self._check_count(len(subject.classes))
        if list(own.classes) != list(subject.classes) or own.fingerprint != subject.fingerprint:
            what = "of the same classes with other weights" if list(own.classes) == list(subject.classes) else ""
            raise ValueError(f"The scorer was fitted for another model{what and ' '}{what}. {again}")
        if None not in (own.views, subject.views) and own.views != subject.views:
            was, now = ("{}x{}".format(*views) for views in (own.views, subject.views) if views is not None)
            raise ValueError(
                f"The scorer was fitted on {was} views (clips x crops) of each video, and got {now}: the threshold "
                "holds for its own. Leave the views out, or fit one with these."
            )

    def save(self, folder: str | Path) -> None:
        """Write the scorer, atomically.

        Args:
            folder: replaced if it exists. It then holds open_set.json and open_set.safetensors.

        Raises:
            ValueError: if the scorer is not fitted.
        """
        settings = {
            "method": self.name,
            "options": self.method.options(),
            "accepted": self.accepted,
            "rule": self.rule,
            "threshold": self._fitted_threshold,
        }
        if self.subject is not None:
            views = None if self.subject.views is None else list(self.subject.views)
            settings["model"] = {
                "fingerprint": self.subject.fingerprint,
                "classes": list(self.subject.classes),
                "views": views,
            }
        tensors = {"known_scores": torch.from_numpy(self.known_scores.copy())}
        tensors |= {f"method.{name}": tensor.contiguous() for name, tensor in self.method.tensors.items()}
        with atomic_directory(Path(folder)) as part:
            (part / SETTINGS).write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")
            save_file(tensors, part / TENSORS)

    @classmethod
    def load(cls, source: str | Path) -> "OpenSetScorer":
        """Read a scorer of `save`.

        Args:
            source: its folder, that of a model with a folder "open_set", or the name of such a model on the Hub.

        Raises:
            ValueError: if there is none.
        """
        try:
            settings_file, tensors_file = (_find(source, name) for name in (SETTINGS, TENSORS))
            settings, tensors = json.loads(settings_file.read_text(encoding="utf-8")), load_file(tensors_file)
            scorer = cls(
                settings["method"], accepted=settings["accepted"], rule=settings["rule"], **settings["options"]
            )
            scorer.threshold, model = float(settings["threshold"]), settings.get("model")
            scorer.known_scores = tensors.pop("known_scores").double().numpy()
            finite = int(np.isfinite(scorer.known_scores).sum())
            if not math.isfinite(scorer.threshold) or not 0 < finite == len(scorer.known_scores):
                raise ValueError(
                    f"threshold {scorer.threshold} of {len(scorer.known_scores)} known videos, {finite} with a score"
                )
            scorer.method.tensors = {name.removeprefix("method."): tensor for name, tensor in tensors.items()}
            if model is not None:
                views = None if model["views"] is None else (int(model["views"][0]), int(model["views"][1]))
                scorer.subject = Subject(model["fingerprint"], model["classes"], views)
        except Exception as error:  # whatever the files hold
            raise ValueError(
                f"{source} holds no open-set scorer ({reason_of(error)}). Fit one: `internvideo calibrate MODEL "
                "val.csv --out FOLDER`."
            ) from error
        return scorer


def _find(source: str | Path, name: str) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return next((path for path in (folder / name, folder / FOLDER / name) if path.is_file()), folder / name)
    if str(source).count("/") != 1:  # which the Hub would be asked for in vain, for half a minute without a network
        raise FileNotFoundError("it is neither a directory nor a Hub repository id, owner/name")
    return Path(hf_hub_download(str(source), name, subfolder=FOLDER))
