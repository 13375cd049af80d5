"""Classification: which class of a fixed set a video shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classification.data import (
    find_tests,
    released_data_sets,
    view_settings,
    with_published,
)
from internvideo_hf.tasks.classifier_answers import Answers
from internvideo_hf.tasks.classifier_evaluation import classify, config_of, load_classifier, views_of
from internvideo_hf.tasks.classifier_training import accuracies, answers_of, logits_of, make_collator
from internvideo_hf.tasks.labelled_clips import read_labelled_clips
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Protocol, Run, Samples, check_list, unique_clips
from internvideo_hf.utils.names import check_name


def _check(protocol: Protocol) -> None:
    check_list(protocol.data.layout, protocol.data.labels)
    if protocol.released is not None:
        check_name(protocol.released, released_data_sets(), "released", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    rows = read_labelled_clips(protocol.data, data_root, model, classes_of(config_of(protocol, model)))
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    tests = find_tests(protocol, config_of(protocol, run.model))
    test = view_settings(tests)
    test_of = [entry.model for entry in tests] if test["num_clips"] else []  # views that no test states
    found = classify(load_classifier(protocol, run, test), samples, run, test_of=test_of)
    answers = Answers(found.videos, samples.labels, found.scores, classes_of(found.config))
    return Outcome(top_k_accuracies(answers.scores, answers.labels), found.causes, found.facts, answers)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    tests = result["model"]["test_of"]
    source = f"the test of {' and '.join(tests)}" if tests else "as its processor is configured"
    return {"views": f"{views_of(result)}, mean of their probabilities; {source}"}


TASK = Task(
    "classification",
    training=Training(
        auto_class="AutoModelForVideoClassification",
        make_collator=make_collator,
        label_names=("labels",),
        column="label",
        compute_metrics=accuracies,
        preprocess_logits=logits_of,
        details=answers_of,
    ),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1", "top-5"),
        settings=("released", "data.layout", "data.labels", "data.only"),
        check=_check,
        has_details=True,
        complete=with_published,
        facts=_facts,
        on_engines=True,
    ),
)
