"""Question answering by a protocol and in training: scores equal to a count by hand, both ways."""

import json

import numpy as np
import pytest
import torch
from tasks.lists import evaluate, videos_of
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, EvalPrediction

from internvideo_hf.tasks.question_answering.task import accuracies


@torch.no_grad()
def test_questions_are_counted_both_ways(answerer, lists):
    names = ["sing", "talk", "run", "no such answer"]
    rows = [
        {"video_id": f"video{number}", "question": "what is it?", "answer": name} for number, name in enumerate(names)
    ]
    (lists / "msrvtt_qa_test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result, printed = evaluate("question_answering/msrvtt", answerer, lists)

    model = AutoModelForVisualQuestionAnswering.from_pretrained(answerer).eval()
    processor = AutoProcessor.from_pretrained(answerer)
    pixels = {"sampler": "internvideo_mm_intervals", "size": {"height": 256, "width": 256}, "num_frames": 8}
    inputs = processor(
        videos=videos_of(lists), text=["what is it?"] * 4, return_tensors="pt", resize_method="pil_bicubic", **pixels
    )
    best = [model.config.id2label[int(number)] for number in model(**inputs).logits.argmax(-1)]
    right = sum(answer == name for answer, name in zip(best, names, strict=True))
    assert result["scores"]["top-1"] == pytest.approx(100 * right / 4)
    assert result["scores"]["top-1 of known answers"] == pytest.approx(100 * right / 3)
    assert "of 75.0% of the questions" in printed and "47.14" in printed


def test_answers_outside_the_list_are_wrong_and_unreadable_videos_count_for_nothing():
    logits = np.eye(3)[[0, 1, 2, 0, 0]]
    labels = np.array([0, 1, 0, -100, -100])  # right, right, wrong, outside the list, unreadable
    videos = np.array([5, 6, 7, 8, -100])
    found = accuracies(EvalPrediction(logits, (labels, videos)))
    assert found == {"top-1": 50.0, "top-1 of known answers": pytest.approx(200 / 3)}
