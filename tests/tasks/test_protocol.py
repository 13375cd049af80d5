"""Helpers of tasks for protocols: choices, lists, distinct clips."""

import json

import numpy as np
import pytest

from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks import TASKS, evaluation_tasks, get_task, training_tasks
from internvideo_hf.tasks.protocol import (
    DataSettings,
    Evaluation,
    Protocol,
    config_of_kind,
    read_rows,
    require_column,
    unique_clips,
)


def test_views_are_set_by_two_names_of_one_meaning():
    protocol = Protocol("t", ["s"], "retrieval", DataSettings("l"), processor={"num_clips": 2, "num_frames": 4})
    assert (protocol.views, protocol.pixels) == ({"num_clips": 2}, {"num_frames": 4})
    protocol = Protocol("t", ["s"], "retrieval", DataSettings("l"), num_clips=2, num_crops=3)
    assert (protocol.views, protocol.pixels) == ({"num_clips": 2, "num_crops": 3}, {})


class TestRows:
    def test_videos_without_a_file_stay(self, tmp_path):
        (tmp_path / "list.csv").write_text("video,label\na.mp4,1\nb.mp4,0\n")
        rows = read_rows(DataSettings("list.csv"), tmp_path)
        assert [(row["video"], row["label"]) for row in rows] == [
            (str(tmp_path / "a.mp4"), 1),
            (str(tmp_path / "b.mp4"), 0),
        ]

    def test_a_protocol_may_select_videos(self, tmp_path):
        (tmp_path / "raw.csv").write_text("key,vid_key,video_id,sentence\n0,0,v0,a dog\n1,1,v1,a cat\n")
        (tmp_path / "ids.txt").write_text("v1\n")
        data = DataSettings("raw.csv", layout="msrvtt_csv", only="ids.txt")
        (row,) = read_rows(data, tmp_path, check_labels=False, allow_duplicates=True)
        assert row["caption"] == "a cat"

    def test_missing_values_are_named(self):
        require_column([{"label": 0}], "label", "list.csv")
        with pytest.raises(RecipeError, match="list.csv has rows without a label"):
            require_column([{"label": 0}, {"label": None}], "label", "list.csv")

    def test_clips_are_distinct_by_video_and_part(self):
        rows = [
            {"video": "a", "caption": "x"},
            {"video": "b", "start": 0.0, "end": 1.0},
            {"video": "a", "caption": "y"},
            {"video": "b", "start": 1.0, "end": 2.0},
            {"video": "b", "start": 0.0, "end": 1.0},
        ]
        clips, owners = unique_clips(rows)
        assert [(clip["video"], clip["start"]) for clip in clips] == [("a", None), ("b", 0.0), ("b", 1.0)]
        assert owners.dtype == np.int64 and owners.tolist() == [0, 1, 0, 2, 1]


def test_models_of_another_kind_or_family_are_refused(tmp_path):
    saved = {"model_type": "internvideo_mae", "architectures": ["InternVideoMAEForVideoActionDetection"]}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    ours, other = (Protocol("t", ["s"], "x", DataSettings("l"), family=name) for name in ("internvideo_mae", "viclip"))
    kind = "ForVideoActionDetection"
    assert config_of_kind(ours, str(tmp_path), kind, "").model_type == "internvideo_mae"
    with pytest.raises(RecipeError, match=f"{tmp_path.name} writes no captions. Take another."):
        config_of_kind(ours, str(tmp_path), "ForConditionalGeneration", "writes no captions. Take another.")
    with pytest.raises(RecipeError, match="for viclip, and .* holds internvideo_mae"):
        config_of_kind(other, str(tmp_path), kind, "")


def test_an_evaluation_has_one_line_and_changes_nothing_by_default():
    evaluation = Evaluation(read=None, run=None, columns=("top-1",), check=lambda protocol: None)
    protocol = Protocol("Title", ["source"], "retrieval", DataSettings("list.csv"))
    assert evaluation.complete(protocol) is protocol
    result = {"scores": {"top-1": 50.0}, "published": ["entry"]}
    assert evaluation.facts(result) == {}
    assert evaluation.lines(result) == [("this model", {"top-1": 50.0}, ["entry"])]


def test_every_folder_is_a_task_that_is_trained_or_evaluated_or_has_a_pipeline():
    assert {get_task(name).name for name in TASKS} == set(TASKS)
    with_pipeline = {name for name, pipeline in TASKS.items() if pipeline is not None}
    assert set(TASKS) == training_tasks().keys() | evaluation_tasks().keys() | with_pipeline
    trained = {"pretraining", "classification", "contrastive", "captioning", "question_answering"}
    trained |= {"temporal_localization", "action_detection", "open_set", "multi_label", "regression"}
    trained |= {"object_detection", "short_term_anticipation", "temporal_grounding"}
    trained |= {"hand_prediction"}
    assert training_tasks().keys() == trained
    assert evaluation_tasks().keys() == {
        "classification",
        "zero_shot",
        "retrieval",
        "multiple_choice",
        "hand_prediction",
        "captioning",
        "question_answering",
        "temporal_localization",
        "temporal_grounding",
        "action_detection",
        "short_term_anticipation",
        "open_set",
        "multi_label",
        "regression",
        "navigation",
        "object_detection",
    }
    with pytest.raises(ValueError, match="Did you mean retrieval"):
        get_task("retreival")
