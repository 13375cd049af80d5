"""Evaluation of classifiers on labelled clips, which several tasks share."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.samples import Row
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.rows import video_name
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.loading import check_classifier
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import Protocol, Run, Samples, model_facts


class Classified(NamedTuple):
    """What a classifier says of the rows of a list.

    Args:
        videos: the clip of each row.
        scores: `(rows, classes)`, see `internvideo_hf.inference.merging.class_scores`; NaN for an unreadable video.
        config: of the classifier.
        causes: why videos are unreadable, by their number in the samples.
        facts: of the result.
    """

    videos: list[Row]
    scores: NDArray[np.float64]
    config: PreTrainedConfig
    causes: dict[int, str]
    facts: dict[str, Any]


def config_of(protocol: Protocol, model: str) -> PreTrainedConfig:
    """Return the configuration of the classifier that a protocol evaluates.

    Args:
        protocol: of one of these tasks.
        model: a folder, or a name on the Hub.

    Raises:
        RecipeError: if the model is of another family than the protocol, or its answers are of another kind.
        ValueError: if it is not a classifier.
    """
    config = check_classifier(model)
    if protocol.family not in (None, config.model_type):
        raise RecipeError(
            f"This protocol is for {protocol.family}, and {model} holds {config.model_type}. Choose another protocol "
            "or another model."
        )
    check_answers(model, config, protocol.task)
    return config


def check_answers(model: str | Path, config: PreTrainedConfig, task: str) -> None:
    """Refuse a classifier whose answers are of another kind than those that a task judges.

    Args:
        model: a folder, or a name on the Hub, for messages.
        config: of the model.
        task: "classification", "multi_label" or "regression".

    Raises:
        RecipeError: if it is one, with the protocol that judges it.
    """
    estimates = config.problem_type == "regression" or (config.problem_type is None and config.num_labels == 1)
    if estimates and task != "regression":
        raise RecipeError(f"{model} estimates numbers, and names no class. Evaluate it by regression/custom.")
    if task == "regression" and not estimates:
        raise RecipeError(
            f"{model} gives scores of {config.num_labels} classes, and estimates no number. Evaluate it by "
            f"{'multi_label' if head_slices(config) else 'classification'}/custom."
        )
    if (heads := head_slices(config)) and task == "classification":
        raise RecipeError(
            f"{model} names one class for each of {', '.join(heads)}. Evaluate it by multi_label/custom, on a list "
            "with a label of each."
        )


def load_classifier(protocol: Protocol, run: Run, test: Mapping[str, Any] | None = None) -> Classifier:
    """Load a classifier with the views and the pixels of a protocol.

    Args:
        protocol: its settings come first.
        run: the model, and where it runs.
        test: then `num_clips`, `num_crops` and `processor` of a published test. What neither says is as the
            processor is configured.

    Raises:
        RecipeError: if the protocol has settings of pixels for a model of several inputs.
    """
    classifier, test = Classifier.load(run.model, device=run.device, dtype=protocol.dtype), test or {}
    branches = classifier.processor.branches
    if protocol.pixels and len(branches) > 1:
        raise RecipeError(
            f"{run.model} has several inputs ({', '.join(branches)}), each with its own settings. Change them in the "
            "folder's video_preprocessor_config.json, and leave out the protocol's processor."
        )
    for branch in branches.values():
        branch.configure(test.get("processor", {}) | protocol.pixels)
    return replace(
        classifier,
        num_clips=protocol.views.get("num_clips") or test.get("num_clips") or classifier.num_clips,
        num_crops=protocol.views.get("num_crops") or test.get("num_crops") or classifier.num_crops,
    )


def facts_of(classifier: Classifier) -> dict[str, Any]:
    """Return what a result says of the classifier.

    Args:
        classifier: from `load_classifier`.
    """
    return {
        **model_facts(classifier.model),
        "views": [classifier.num_clips, classifier.num_crops],
        "pixels": pixel_settings(classifier.processor),
    }


def classify(classifier: Classifier, samples: Samples, run: Run, **facts: Any) -> Classified:
    """Classify the clips of a list.

    Args:
        classifier: from `load_classifier`.
        samples: of the list.
        run: settings, and the folder of finished parts.
        facts: further ones for the result.
    """
    facts = facts_of(classifier) | facts
    names = [video_name(row) for row in samples.videos]
    scores, causes = classifier.classify(samples.videos, run.settings, run.parts_of(classifier.model, facts, names))
    return Classified(
        [samples.videos[owner] for owner in samples.owners],
        scores[samples.owners],
        classifier.model.config,
        {number: causes[name] for number, name in enumerate(names) if name in causes},
        facts,
    )


def views_of(result: Mapping[str, Any]) -> str:
    """Return the views of a result as text, such as "4 clips x 3 crops".

    Args:
        result: with the facts of `classify`.
    """
    clips, crops = result["model"]["views"]
    return f"{clips} clips x {crops} crops"
