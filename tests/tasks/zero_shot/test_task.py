"""Zero-shot classification by a protocol: scores of the pipeline, published rows beside them."""

import numpy as np
import pytest
from tasks.lists import CLASSES, evaluate, videos_of
from transformers import AutoModel, AutoProcessor, pipeline

import internvideo_hf  # noqa: F401
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.zero_shot import task


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


FROM_LIST = "data.list=val.csv"


def test_classes_are_the_names_of_the_list_or_of_a_file(small_folder, lists, tmp_path):
    """A model with random weights; with two classes, every answer is among the first five."""
    for number, name in enumerate(("water/a.mp4", "noise/b.mp4")):
        (tmp_path / "val" / name).parent.mkdir(parents=True)
        (tmp_path / "val" / name).symlink_to(videos_of(lists)[number])
    own, _ = evaluate("zero_shot/k400", small_folder, tmp_path, "data.labels=null", FROM_LIST)
    assert own["scores"]["top-5"] == 100 and own["data"]["videos"] == 2
    (tmp_path / "names.txt").write_text("noise\nwater\n")
    named, _ = evaluate("zero_shot/k400", small_folder, tmp_path, "data.labels=names.txt", "data.list=val")
    assert named["scores"] == own["scores"]
    assert set(own["data"]["files"].values()) == set(named["data"]["files"].values())
    (tmp_path / "val.csv").write_text("val/water/a.mp4,0\n")
    with pytest.raises(RecipeError, match="val.csv has no names of classes. Set data.labels"):
        task.TASK.evaluation.read(load_protocol("zero_shot/k400", ["data.labels=null", FROM_LIST]), tmp_path, "")
