"""Zero-shot classification by a protocol: scores of the pipeline, published rows beside them."""

import numpy as np
from tasks.lists import CLASSES, evaluate, videos_of
from transformers import AutoModel, AutoProcessor, pipeline

import internvideo_hf  # noqa: F401
from internvideo_hf.recipes.labels import load_labels


def test_classes_are_those_of_the_pipeline(mm_folder, lists):
    result, printed = evaluate("zero_shot/k400", mm_folder, lists, CLASSES)
    classify = pipeline(
        "zero-shot-video-classification",
        model=AutoModel.from_pretrained(mm_folder),
        processor=AutoProcessor.from_pretrained(mm_folder),
        device="cpu",
        candidate_labels=load_labels("hmdb51"),
        prompts="kinetics",
        sampler="internvideo_mm_intervals",
        size={"height": 256, "width": 256},
        resize_method="pil_bicubic",
    )
    answers = classify(videos_of(lists))
    places = [[entry["label"] for entry in answer].index(load_labels("hmdb51")[n]) for n, answer in enumerate(answers)]
    expected = {f"top-{k}": 100 * np.mean([place < k for place in places]) for k in (1, 5)}
    assert result["scores"] == expected | {"mean": np.mean(list(expected.values()))}
    assert "prompts of kinetics" in printed and "64.25" in printed and "InternVideo-MM-B-16" in printed
