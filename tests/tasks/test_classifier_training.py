"""What the trainings of classifiers share."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from internvideo_hf import UniFormerV2Config
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classifier_training import (
    accuracies,
    answers_of,
    logits_of,
    make_collator,
    make_collator_without_mixup,
    scores_of,
)


def samples(labels):
    return [
        {"pixel_values_videos": torch.zeros(2, 3, 4, 4), "labels": torch.tensor(label), "seed": 0, "video": "a.mp4"}
        for label in labels
    ]


def test_accuracies_leave_out_what_could_not_be_read():
    logits = np.array([[0.0, 1], [0, 1], [0, 1]])
    found = accuracies(EvalPrediction(predictions=logits, label_ids=np.array([1, 0, -100])))
    assert found == {"top-1": 50, "top-5": 100}


def test_logits_are_the_first_output():
    logits = torch.zeros(2, 3)
    assert logits_of((logits, torch.ones(1)), None) is logits and logits_of(logits, None) is logits


def test_mixup_is_for_training_alone():
    options = {"mixup_alpha": 0.8, "probability": 1.0}
    batch = make_collator(training=True, num_labels=3, mixup=options)(samples([0, 2]))
    assert batch["labels"].shape == (2, 3) and batch["videos"] == ["a.mp4", "a.mp4"]
    batch = make_collator(training=False, num_labels=3, mixup=options)(samples([0, 2]))
    assert batch["labels"].tolist() == [0, 2]


def test_other_labels_than_classes_take_no_mixup():
    batch = make_collator_without_mixup(training=False, num_labels=3)([*samples([0.5]), {"failure": "", "video": ""}])
    assert batch["labels"].tolist() == [0.5, -100]
    with pytest.raises(RecipeError, match="data.mixup is for one label"):
        make_collator_without_mixup(training=True, mixup={"mixup_alpha": 0.8})


LOGITS = np.log([[3.0, 1, 4], [1, 1, 2]])


@pytest.mark.parametrize(
    ("settings", "labels", "expected"),
    [
        ({"num_labels": 3}, [0, -100], [3 / 8, 1 / 8, 4 / 8]),
        (
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            [[1, -100, 0], [-100] * 3],
            [3 / 4, 1 / 2, 4 / 5],
        ),
        ({"label_heads": {"verb": ["cut", "wash"], "noun": ["pan"]}}, [[0, -100], [-100] * 2], [3 / 4, 1 / 4, 1]),
        ({"num_labels": 3, "problem_type": "regression"}, [[1, 2, 3], [-100] * 3], LOGITS[0]),
    ],
)
def test_scores_are_those_of_the_problem_and_none_of_an_unreadable_video(settings, labels, expected):
    config = UniFormerV2Config(**settings)
    found = scores_of(EvalPrediction(predictions=LOGITS, label_ids=np.array(labels)), config)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    assert np.isnan(found[1]).all()


def test_answers_have_the_rows_labels_and_further_columns(tmp_path):
    config = UniFormerV2Config(num_labels=3)
    rows = [{"video": "a.mp4", "label": 2}, {"video": "b.mp4", "label": 1}]
    prediction = EvalPrediction(predictions=(LOGITS, np.ones(2)), label_ids=np.array([2, -100]))
    answers = answers_of(prediction, rows, config, doubt=np.array([0.25, 0.5]))
    assert answers.predicted.tolist() == [2, -1] and answers.labels.tolist() == [2, 1]
    answers.write(tmp_path / "report")
    lines = (tmp_path / "report/answers.csv").read_text().splitlines()
    assert lines[0].endswith("rank of label,doubt,top-5") and ",1,1,0.250000,LABEL_2 0.5000;" in lines[1]
    assert lines[2].endswith(",0,,,unreadable")
