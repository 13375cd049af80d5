"""What the trainings of classifiers share."""

import numpy as np
import torch
from transformers import EvalPrediction

from internvideo_hf.tasks.classifier_training import accuracies, logits_of, make_collator


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
