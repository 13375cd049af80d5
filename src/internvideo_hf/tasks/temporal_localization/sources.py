"""Features of a data set as a recipe or a protocol names them: how they lie in time, and which encoder made them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.utils import logging

from internvideo_hf.data.records import ManifestError, require_datasets
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import FeatureData
from internvideo_hf.tasks.temporal_localization.annotations import (
    ONE_CLASS,
    VideoAnnotation,
    read_annotations,
)
from internvideo_hf.tasks.temporal_localization.data import (
    Cropping,
    FeatureDataset,
    FeatureFolder,
    feature_rule,
    settings_of,
)
from internvideo_hf.utils.names import reason_of

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)

# Of a description beside features: what all videos of a folder share.
_RULE = ("window", "stride", "fps", "revision", "layer", "pooling")


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
            logger.warning(f"{path} leaves out numbers of classes; its {len(names)} classes are numbered anew.")
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
    folder = FeatureFolder(data_root / data.folder, data.prefix)
    described = _descriptions(folder, videos)
    trained_on = feature_rule(trained_on)
    facts = _facts(data, next(iter(described.values()), None), trained_on)
    _check_same(facts, trained_on, str(folder.folder))
    if data.stride is None:
        rates = {name: facts["fps"] or known["rate"] for name, known in described.items()}
        videos = {name: replace(video, fps=rates.get(name, video.fps)) for name, video in videos.items()}
    settings = replace(settings_of(facts), prefix=data.prefix)
    dataset = FeatureDataset(
        videos,
        folder,
        settings,
        reference=None if data.reference is None else FeatureFolder(data_root / data.reference, data.prefix),
        cropping=cropping,
        tidy=data.tidy and cropping is not None,
        class_agnostic=data.class_agnostic,
        seed=seed,
    )
    return dataset, facts


def check_complete(dataset: FeatureDataset, skip_missing: bool) -> None:
    """Refuse, or count, annotated videos without features.

    Args:
        dataset: from `open_features`.
        skip_missing: warn of them only.

    Raises:
        ManifestError: if there are some, unless they are skipped.
    """
    if not dataset.missing:
        return
    cause = f"{len(dataset.missing)} of {len(dataset.missing) + len(dataset)} videos have no features, the first is "
    cause += dataset.missing[0]
    if not skip_missing:
        raise ManifestError(str(dataset.features.folder), None, cause, "Extract them, or set data.missing=skip.")
    logger.warning(f"{dataset.features.folder}: {cause}; they are left out.")


def _descriptions(folder: FeatureFolder, videos: Mapping[str, VideoAnnotation]) -> dict[str, dict[str, Any]]:
    """Return what `internvideo extract` says of each video's features; it must say the same of all."""
    found: dict[str, dict[str, Any]] = {}
    first: tuple[str, dict[str, Any]] | None = None
    for video in videos:
        file = folder.path_of(video).with_suffix(".json") if video in folder else None
        if file is None or not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            known = {name: content[name] for name in ("model", "window", "stride")} | {"rate": content["fps"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ManifestError(str(file), None, f"it cannot be read ({reason_of(error)})", "Extract anew.") from error
        known |= {name: content.get(name) for name in _RULE} | {"fps": content.get("sampled_fps")}
        first = first or (video, known)
        if changed := [name for name in _RULE if known[name] != first[1][name]]:
            cause = f"its {changed[0]} is {known[changed[0]]!r}, and that of {first[0]} {first[1][changed[0]]!r}"
            raise ManifestError(str(file), None, cause, "Extract all with the same settings.")
        found[video] = known
    return found


def _facts(data: FeatureData, known: Mapping[str, Any] | None, trained_on: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return encoder and window rule: those of the settings, of the descriptions, or of the model, in this order."""
    fixed = {} if data.fixed_length is None else {"fixed_length": data.fixed_length, "window_rows": data.num_frames}
    if data.stride is not None:
        rule = {"window": data.num_frames, "stride": data.stride, "fps": data.fps}
        return {"encoder": data.encoder, **rule, **fixed}
    if known is not None:
        rule = {name: known[name] for name in _RULE if known[name] is not None or name == "fps"}
        return {"encoder": data.encoder or known["model"], **rule, **fixed}
    if trained_on and ({"window", "stride"} <= set(trained_on) or "fixed_length" in trained_on):
        return {"fps": None, **trained_on, **fixed}
    if fixed:
        return {"encoder": data.encoder, "fps": data.fps, **fixed}
    raise RecipeError(
        "Nothing says which frames a row of the features stands for: `internvideo extract` writes it beside them, or "
        "set data.features.stride, num_frames and fps."
    )


def _check_same(facts: Mapping[str, Any], trained_on: Mapping[str, Any] | None, folder: str) -> None:
    for name in ("revision", "window", "stride", "fps", "fixed_length", "window_rows", "layer", "pooling"):
        ours, its = facts.get(name), (trained_on or {}).get(name)
        # No rate is each video's own, where windows are known.
        known = name == "fps" and all(rule.get("stride") for rule in (facts, trained_on or {}))
        if ours != its and (known or None not in (ours, its)):
            raise RecipeError(
                f"The features of {folder} have {name}={_shown(ours)}, and the model was trained on "
                f"{name}={_shown(its)}. Extract "
                f"them with {(trained_on or {}).get('encoder') or 'its encoder'} as it was done for training."
            )


def _shown(value: Any) -> str:
    return "that of each video" if value is None else str(value)
