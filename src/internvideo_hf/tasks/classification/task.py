"""Classification: which class of a fixed set a video shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.samples import Row
from internvideo_hf.inference.classifier import Classifier, video_name
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.merging import class_scores, top_k_accuracies
from internvideo_hf.models.common.loading import check_classifier, classes_of
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classification.answers import Answers
from internvideo_hf.tasks.classification.data import (
    find_tests,
    released_data_sets,
    view_settings,
    with_published,
)
from internvideo_hf.tasks.classifier_training import accuracies, logits_of, make_collator
from internvideo_hf.tasks.labelled_clips import read_labelled_clips
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_list,
    model_facts,
    unique_clips,
)
from internvideo_hf.utils.names import check_name


def _details(prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig) -> Answers:
    logits = np.asarray(prediction.predictions, np.float64)
    scores = np.stack([class_scores(row, config.problem_type) for row in logits])
    scores[np.asarray(prediction.label_ids) == -100] = np.nan  # it could not be read
    return Answers(rows, np.array([row["label"] for row in rows]), scores, classes_of(config))


def _check(protocol: Protocol) -> None:
    check_list(protocol.data.layout, protocol.data.labels)
    if protocol.released is not None:
        check_name(protocol.released, released_data_sets(), "released", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    config = check_classifier(model)
    if protocol.family not in (None, config.model_type):
        raise RecipeError(
            f"This protocol is for {protocol.family}, and {model} holds {config.model_type}. Choose another protocol "
            "or another model."
        )
    rows = read_labelled_clips(protocol.data, data_root, model, classes_of(config))
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    classifier = Classifier.load(run.model, device=run.device, dtype=protocol.dtype)
    tests = find_tests(protocol, classifier.model.config)
    views = view_settings(tests)
    branches = classifier.processor.branches
    if protocol.pixels and len(branches) > 1:
        raise RecipeError(
            f"{run.model} has several inputs ({', '.join(branches)}), each with its own settings. Change them in the "
            "folder's video_preprocessor_config.json, and leave out the protocol's processor."
        )
    for branch in branches.values():
        branch.configure(views["processor"] | protocol.pixels)
    classifier = replace(
        classifier,
        num_clips=protocol.views.get("num_clips") or views["num_clips"] or classifier.num_clips,
        num_crops=protocol.views.get("num_crops") or views["num_crops"] or classifier.num_crops,
    )
    facts = {
        **model_facts(classifier.model),
        "test_of": [test.model for test in tests] if views["num_clips"] else [],  # views that no test states
        "views": [classifier.num_clips, classifier.num_crops],
        "pixels": pixel_settings(classifier.processor),
    }
    names = [video_name(row) for row in samples.videos]
    parts = run.parts_of(classifier.model, facts, names)
    probabilities, causes = classifier.classify(samples.videos, run.settings, parts)
    videos = [samples.videos[owner] for owner in samples.owners]
    answers = Answers(videos, samples.labels, probabilities[samples.owners], classifier.classes)
    return Outcome(
        top_k_accuracies(answers.scores, answers.labels),
        {number: causes[name] for number, name in enumerate(names) if name in causes},
        facts,
        answers,
    )


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    model, (clips, crops) = result["model"], result["model"]["views"]
    views = f"{clips} clips x {crops} crops, mean of their probabilities"
    source = f"the test of {' and '.join(model['test_of'])}" if model["test_of"] else "as its processor is configured"
    return {"views": f"{views}; {source}"}


TASK = Task(
    "classification",
    training=Training(
        auto_class="AutoModelForVideoClassification",
        make_collator=make_collator,
        label_names=("labels",),
        column="label",
        compute_metrics=accuracies,
        preprocess_logits=logits_of,
        details=_details,
    ),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1", "top-5"),
        settings=("released", "data.labels", "data.only"),
        check=_check,
        has_details=True,
        complete=with_published,
        facts=_facts,
    ),
)
