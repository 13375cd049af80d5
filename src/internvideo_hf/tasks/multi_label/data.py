"""Lists of videos with several labels, and their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.samples import Row, Sample
from internvideo_hf.inference.rows import video_name
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classifier_evaluation import config_of
from internvideo_hf.tasks.labelled_clips import check_classes
from internvideo_hf.tasks.protocol import Protocol, Samples, read_rows, require_column, unique_clips

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
        (targets,) = multi_hot([sample["labels"].tolist()], self.num_labels)
        return {**sample, "labels": torch.from_numpy(targets).float()}


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
        RecipeError: if classes cannot be read, their names are missing, or a clip has several rows without heads.
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
        _check_one_row(*unique_clips(rows), path)
    if (first := next((row for row, entry in enumerate(rows["label"]) if entry is None), None)) is not None:
        raise ManifestError(
            str(path), None, f"{rows[first]['video']} has no labels", "Add them; an empty list is a video of no class."
        )
    return rows, classes


def multi_hot(labels: Sequence[Sequence[int]], num_labels: int) -> NDArray[np.int64]:
    """Return 1 for the classes of a video and 0 for the others, `(videos, num_labels)`.

    Args:
        labels: class numbers of each video.
        num_labels: number of classes.
    """
    targets = np.zeros((len(labels), num_labels), np.int64)
    for row, own in zip(targets, labels, strict=True):
        row[list(own)] = 1
    return targets


def labels_of(rows: Sequence[Row], config: PreTrainedConfig) -> NDArray[np.int64]:
    """Return the labels of rows: `multi_hot`, or of several heads a class number of each, `(rows, heads)`.

    Args:
        rows: with `label`, a list.
        config: of the classifier.
    """
    labels = [row["label"] for row in rows]
    return np.array(labels) if getattr(config, "label_heads", None) else multi_hot(labels, len(classes_of(config)))


def read_samples(protocol: Protocol, data_root: Path, model: str) -> Samples:
    """Read the list of an evaluation.

    Args:
        protocol: of this task.
        data_root: the folder of the list and of the videos.
        model: the classifier.

    Raises:
        RecipeError: if model and list do not suit each other, a row has no labels, or a clip has several rows.
        ManifestError: if the list is invalid.
    """
    config, data = config_of(protocol, model), protocol.data
    heads: dict[str, list[str]] | None = getattr(config, "label_heads", None)
    if heads and data.labels is not None:
        raise RecipeError(
            f"{model} has the classes of {', '.join(heads)}, and data.labels={data.labels}. Leave it out."
        )
    classes = None if heads else check_classes(model, classes_of(config), data.labels, data_root)
    rows = read_rows(data, data_root, several=True, labels=classes, heads=heads)
    require_column(rows, "label", data.list)
    videos, owners = unique_clips(rows)
    _check_one_row(videos, owners, data.list)
    return Samples(videos, owners, labels=labels_of(rows, config))


def _check_one_row(videos: Sequence[Row], owners: NDArray[np.int64], list_name: str | Path) -> None:
    """Refuse a list with a row for each label of a clip, where each row would deny the labels of the others."""
    if len(videos) < len(owners):
        name = video_name(videos[int(np.bincount(owners).argmax())])
        raise RecipeError(
            f"{list_name} has several rows for {name}, expected one with all of its labels, such as `run|jump`. Parts "
            "of a video differ by start and end."
        )
