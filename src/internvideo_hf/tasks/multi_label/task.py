"""Several labels of a video: any number of the same classes, or one of each head, such as a verb and a noun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.samples import Sample
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_training import logits_of, make_collator
from internvideo_hf.tasks.multi_label.metrics import accuracies_of_heads, mean_average_precision

Classes = list[str] | dict[str, list[str]]


@dataclass(frozen=True)
class MultiHotCollator:
    """Makes batches with 0 or 1 for each class of a video.

    Args:
        collator: of the batches, without mixup.
        num_labels: number of classes.
    """

    collator: VideoCollator
    num_labels: int

    def __call__(self, samples: Sequence[Any]) -> dict[str, Any]:
        return self.collator([self._with_targets(sample) for sample in samples])

    def _with_targets(self, sample: Sample) -> Sample:
        if "labels" not in sample:
            return sample  # of a video that could not be read
        targets = torch.zeros(self.num_labels)
        targets[sample["labels"].long()] = 1
        return {**sample, "labels": targets}


def read(
    path: Path,
    data_root: Path,
    *,
    layout: str | None,
    labels: str | int | None,
    heads: Mapping[str, str] | None = None,
    classes: Classes | None = None,
    skip_missing: bool = False,
) -> tuple[Any, Classes]:
    """Read a list of videos with several labels; see `Training.read`.

    Args:
        path: the list, whose `labels` are lists of names or numbers, or text with "|" between them.
        data_root: directory that paths are relative to.
        layout: a name in `internvideo_hf.data.LAYOUTS`; None to detect it.
        labels: the classes, see `read_classes`; None for those of the list.
        heads: name of each head -> its classes, see `read_classes`; None for one set of classes.
        classes: those of the training list.
        skip_missing: leave out rows whose video has no file.

    Raises:
        ManifestError: if the list is invalid, or a row has no labels.
        RecipeError: if classes cannot be read, or nobody names them.
    """
    if isinstance(labels, int):
        raise RecipeError(f"data.labels={labels}: several labels need names. Give a text file with one name a line.")
    options: dict[str, Any] = {"layout": layout, "skip_missing": skip_missing, "several": True}
    if heads is not None:
        found = {name: read_classes(file, data_root) for name, file in heads.items()}
        rows, classes = load_manifest(path, data_root, heads=found, **options), found
    else:
        names = classes if classes is not None else None if labels is None else read_classes(labels, data_root)
        rows = load_manifest(path, data_root, labels=names, **options)
        names = names or getattr(rows.features["label"].feature, "names", None)
        if names is None:
            raise RecipeError(f"{path} has numbers for labels: name their classes by data.labels, a text file.")
        classes = list(names)
    if (first := next((row for row, entry in enumerate(rows["label"]) if entry is None), None)) is not None:
        raise ManifestError(
            str(path), None, f"{rows[first]['video']} has no labels", "Add them; an empty list is a video of no class."
        )
    return rows, classes


def _make_collator(
    *, training: bool, num_labels: int, mixup: Mapping[str, Any] | None = None, **_: Any
) -> MultiHotCollator:
    if mixup:
        raise RecipeError("data.mixup is for one label of a video. Set it to null.")
    return MultiHotCollator(make_collator(training=training, num_labels=num_labels), num_labels)


def _mean_average_precision(prediction: EvalPrediction) -> dict[str, float]:
    return mean_average_precision(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))


def _accuracies_of_heads(prediction: EvalPrediction, heads: Mapping[str, slice]) -> dict[str, float]:
    return accuracies_of_heads(np.asarray(prediction.predictions), np.asarray(prediction.label_ids), heads)


def _of_config(config: PreTrainedConfig) -> Training:
    """Return the training of a model with several heads, or of one without."""
    if not (heads := head_slices(config)):
        return TRAINING
    return replace(
        TRAINING, make_collator=_make_collator_of_heads, compute_metrics=partial(_accuracies_of_heads, heads=heads)
    )


def _make_collator_of_heads(*, mixup: Mapping[str, Any] | None = None, **options: Any) -> VideoCollator:
    return _make_collator(mixup=mixup, **options).collator


TRAINING = Training(
    auto_class="AutoModelForVideoClassification",
    make_collator=_make_collator,
    label_names=("labels",),
    read=read,
    compute_metrics=_mean_average_precision,
    preprocess_logits=logits_of,
    problem_type="multi_label_classification",
    of_config=_of_config,
)
TASK = Task("multi_label", training=TRAINING)
