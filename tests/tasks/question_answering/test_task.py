"""Question answering by a protocol: scores equal to a count by hand, both ways."""

import json

import pytest
import torch
from tasks.lists import evaluate, videos_of
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor


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
