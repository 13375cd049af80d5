"""Annotated features of a data set, as a recipe or a protocol names them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.utils import logging

from internvideo_hf.data.features import FeatureFolder
from internvideo_hf.data.records import require_datasets
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.features import open_folder
from internvideo_hf.tasks.protocol import FeatureData
from internvideo_hf.tasks.temporal_localization.annotations import (
    ONE_CLASS,
    VideoAnnotation,
    read_annotations,
)
from internvideo_hf.tasks.temporal_localization.data import Cropping, FeatureDataset

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    features: FeatureData,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read annotations for training or validation.

    Args:
        path: see `read_annotations`.
        data_root: unused; the features are read later.
        features: settings of the recipe.
        labels: unused: classes are those of the annotations.
        classes: the classes of the training list, for a validation list.
        layout: unused: detected.
        skip_missing: unused; features are looked for later.

    Returns:
        A row for each video: `video`, its id; `segments`, in seconds; `labels`; `duration` and `fps`, None if unknown;
        and the names of the classes.

    Raises:
        ManifestError: if the annotations are invalid.
        RecipeError: if they hold no video for the purpose.
    """
    if labels is not None or layout is not None:
        raise RecipeError("data.labels and data.layout change nothing in temporal_localization. Leave them out.")
    subset = features.train_subset if classes is None else features.subset
    if features.class_agnostic:
        annotations, names = read_annotations(path), [ONE_CLASS]
    else:
        annotations = read_annotations(path, classes)
        names = list(annotations.classes.values())
        if list(annotations.classes) != list(range(len(names))):
            logger.warning(f"{path} leaves out numbers of classes; its {len(names)} classes are renumbered.")
            annotations = read_annotations(path, names)
    try:
        videos = annotations.of_subset(subset)
    except ValueError as error:
        raise RecipeError(f"{path}: {error} Set data.features.train_subset and data.features.subset.") from error
    rows = [
        {
            "video": name,
            "segments": video.segments.tolist(),
            "labels": np.zeros_like(video.labels).tolist() if features.class_agnostic else video.labels.tolist(),
            "duration": video.duration,
            "fps": video.fps,
        }
        for name, video in videos.items()
    ]
    return require_datasets().Dataset.from_list(rows), names


def annotations_of(rows: Sequence[Mapping[str, Any]], subset: str) -> dict[str, VideoAnnotation]:
    """Return the annotations of rows from `read_training_rows`, by the ids of the videos.

    Args:
        rows: of a list.
        subset: whose they are.
    """
    return {
        row["video"]: VideoAnnotation(
            subset,
            np.array(row["segments"], dtype=np.float32).reshape(-1, 2),
            np.array(row["labels"], dtype=np.int64),
            row["duration"],
            row["fps"],
        )
        for row in rows
    }


def open_features(
    data: FeatureData,
    data_root: Path,
    videos: Mapping[str, VideoAnnotation],
    *,
    trained_on: Mapping[str, Any] | None = None,
    cropping: Cropping | None = None,
    seed: int = 0,
) -> tuple[FeatureDataset, dict[str, Any]]:
    """Open the features of annotated videos.

    Args:
        data: settings of a recipe or a protocol.
        data_root: folder that the features are below.
        videos: id -> annotation.
        trained_on: `config.features` of the model that is evaluated; None in training, or if unknown.
        cropping: windows for training; None for evaluation.
        seed: of the windows.

    Returns:
        The samples, and the facts about the features that a model trained on them keeps (`config.features`).

    Raises:
        ManifestError: if there are no features, or those of different settings.
        RecipeError: if nothing says how they lie in time, or they are not those that the model was trained on.
    """
    found = open_folder(data, data_root, videos, trained_on)
    videos = {name: replace(video, fps=found.rates.get(name, video.fps)) for name, video in videos.items()}
    dataset = FeatureDataset(
        videos,
        found.folder,
        found.settings,
        reference=None if data.reference is None else FeatureFolder(data_root / data.reference, data.prefix),
        cropping=cropping,
        tidy=data.tidy and cropping is not None,
        class_agnostic=data.class_agnostic,
        seed=seed,
    )
    return dataset, found.facts
