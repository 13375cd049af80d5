"""Several labels of a video: any number of the same classes, or one of each head, such as a verb and a noun."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.samples import Row
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_evaluation import classify, load_classifier, views_of
from internvideo_hf.tasks.classifier_training import logits_of, make_collator_without_mixup, scores_of
from internvideo_hf.tasks.multi_label.answers import HeadAnswers, LabelSets
from internvideo_hf.tasks.multi_label.data import MultiHotCollator, labels_of, read, read_samples
from internvideo_hf.tasks.multi_label.metrics import accuracies_of_heads, mean_average_precision
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Protocol, Run, Samples, check_list


def _make_collator(*, num_labels: int, **options: Any) -> MultiHotCollator:
    return MultiHotCollator(make_collator_without_mixup(**options), num_labels)


def _mean_average_precision(prediction: EvalPrediction) -> dict[str, float]:
    return mean_average_precision(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))


def _accuracies_of_heads(prediction: EvalPrediction, heads: Mapping[str, slice]) -> dict[str, float]:
    return accuracies_of_heads(np.asarray(prediction.predictions), np.asarray(prediction.label_ids), heads)


def _of_config(config: PreTrainedConfig) -> Training:
    """Return the training of a model with several heads, or of one without."""
    if not (heads := head_slices(config)):
        return TRAINING
    scores = partial(_accuracies_of_heads, heads=heads)
    return replace(TRAINING, make_collator=make_collator_without_mixup, compute_metrics=scores)


def _answers(
    videos: Sequence[Row], labels: NDArray[np.int64], scores: NDArray[np.float64], config: PreTrainedConfig
) -> LabelSets | HeadAnswers:
    if heads := getattr(config, "label_heads", None):
        return HeadAnswers(videos, labels, scores, heads)
    return LabelSets(videos, labels, scores, classes_of(config))


def _details(prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig) -> LabelSets | HeadAnswers:
    return _answers(rows, labels_of(rows, config), scores_of(prediction, config), config)


def _check(protocol: Protocol) -> None:
    check_list(protocol.data.layout, protocol.data.labels)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    classifier = load_classifier(protocol, run)
    heads = head_slices(classifier.model.config)
    found = classify(classifier, samples, run, heads=list(heads))
    answers = _answers(found.videos, samples.labels, found.scores, found.config)
    if heads:
        scores = accuracies_of_heads(answers.scores, answers.labels, heads)
    else:
        scores = mean_average_precision(answers.scores, answers.labels)
    return Outcome(scores, found.causes, found.facts, answers)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {"views": f"{views_of(result)}, mean of their scores; as its processor is configured"}


def _lines(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], list[Mapping[str, Any]]]]:
    """Return the rows of a table: of several heads, one for each of them, and one for all."""
    scores, heads = result["scores"], result["model"]["heads"]
    if not heads:
        return [("this model", scores, result["published"])]
    return [
        (
            name,
            _of_head(scores, name),
            [{**entry, "scores": _of_head(entry["scores"], name)} for entry in result["published"]],
        )
        for name in (*heads, "all")
    ]


def _of_head(scores: Mapping[str, float], name: str) -> dict[str, float]:
    return {key: scores[f"{name}-{key}"] for key in ("top-1", "top-5") if f"{name}-{key}" in scores}


TRAINING = Training(
    auto_class="AutoModelForVideoClassification",
    make_collator=_make_collator,
    label_names=("labels",),
    read=read,
    compute_metrics=_mean_average_precision,
    preprocess_logits=logits_of,
    problem_type="multi_label_classification",
    of_config=_of_config,
    details=_details,
)
TASK = Task(
    "multi_label",
    training=TRAINING,
    evaluation=Evaluation(
        read=read_samples,
        run=_run,
        columns=("mAP", "top-1", "top-5"),
        settings=("data.layout", "data.labels", "data.only"),
        check=_check,
        facts=_facts,
        has_details=True,
        lines=_lines,
        on_engines=True,
    ),
)
