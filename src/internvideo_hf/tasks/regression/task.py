"""Regression: numbers that a model estimates of a video, such as the score of a dive."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.records import ManifestError
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import video_name
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_evaluation import classify, config_of, load_classifier, views_of
from internvideo_hf.tasks.classifier_training import logits_of, make_collator_without_mixup, scores_of
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_list,
    read_rows,
    unique_clips,
)
from internvideo_hf.tasks.regression.answers import Estimates
from internvideo_hf.tasks.regression.metrics import regression_scores


def read(
    path: Path,
    data_root: Path,
    *,
    layout: str | None,
    labels: str | int | None,
    classes: list[str] | int | None = None,
    skip_missing: bool = False,
) -> tuple[Any, list[str] | int]:
    """Read a list of videos with numbers; see `Training.read`.

    Args:
        path: the list, whose `labels` are a number, lists of numbers, or text with "|" between them.
        data_root: directory that paths are relative to.
        layout: a name in `internvideo_hf.data.LAYOUTS`; None to detect it.
        labels: a text file with the name of each number, or how many there are; None for as many as in the list.
        classes: names or count of the training list.
        skip_missing: leave out rows whose video has no file.

    Raises:
        ManifestError: if the list is invalid, or a row has another count of numbers.
        RecipeError: if the names cannot be read.
    """
    rows = load_manifest(path, data_root, layout=layout, numbers=True, skip_missing=skip_missing)
    wanted = classes if classes is not None else read_classes(labels, data_root) if isinstance(labels, str) else labels
    found: list[str] | int = len(rows[0]["label"] or ()) if wanted is None else wanted
    _check_counts(rows, found if isinstance(found, int) else len(found), path)
    return rows, found


def _check_counts(rows: Any, wanted: int, path: str | Path) -> None:
    for row in rows:
        if len(row["label"] or ()) != wanted or not wanted:
            raise ManifestError(
                str(path),
                None,
                f"{video_name(row)} has {len(row['label'] or ())} numbers, expected {wanted or 'one or more'}",
                'Write the same count in each row, "|" between them in text; an unknown one may be empty.',
            )


def _compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    return regression_scores(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))


def _details(prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig) -> Estimates:
    return Estimates(rows, _labels(rows), scores_of(prediction, config), classes_of(config))


def _labels(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row["label"] for row in rows], np.float64)


def _check(protocol: Protocol) -> None:
    check_list(protocol.data.layout)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    config = config_of(protocol, model)
    rows = read_rows(protocol.data, data_root, numbers=True)
    _check_counts(rows, len(classes_of(config)), protocol.data.list)
    if (_labels(rows) == IGNORED).all():
        raise RecipeError(f"{protocol.data.list} has no known number. Add one.")
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=_labels(rows))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = classify(load_classifier(protocol, run), samples, run)
    answers = Estimates(found.videos, samples.labels, found.scores, classes_of(found.config))
    return Outcome(regression_scores(answers.estimates, answers.labels), found.causes, found.facts, answers)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {"views": f"{views_of(result)}, mean of their estimates; as its processor is configured"}


TASK = Task(
    "regression",
    training=Training(
        auto_class="AutoModelForVideoClassification",
        make_collator=make_collator_without_mixup,
        label_names=("labels",),
        read=read,
        compute_metrics=_compute_metrics,
        preprocess_logits=logits_of,
        problem_type="regression",
        details=_details,
    ),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("MAE", "MSE", "Pearson", "Spearman"),
        settings=("data.layout", "data.only"),
        check=_check,
        facts=_facts,
        has_details=True,
        on_engines=True,
    ),
)
