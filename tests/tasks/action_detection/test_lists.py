"""Lists of key frames: rows, classes, files, excluded key frames, and what a model found in them."""

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection.annotations import Box, KeyFrame
from internvideo_hf.tasks.action_detection.lists import (
    found_in,
    read_evaluation_list,
    read_training_rows,
    rows_of,
    scored_classes,
    truth_of,
    with_files,
)
from internvideo_hf.tasks.action_detection.videos import VideoFolder
from internvideo_hf.tasks.protocol import BoxData

LINES = "a,1,0,0,0.5,1,run,0\na,1,0,0,0.5,1,wave,0\na,1,0.5,0,1,1,,1\nb,2,0,0,1,1,run,0\nb,3\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "list.csv").write_text(LINES)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    return tmp_path


def read(root, **options):
    return read_training_rows(root / "list.csv", root, **{"boxes": BoxData()} | options)


def test_rows_are_key_frames_with_people(root):
    rows, classes = read(root)
    assert classes == ["run", "wave"] and list(rows["video"]) == ["a", "b"]
    assert rows[0] == {
        "video": "a",
        "timestamp": 1.0,
        "boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]],
        "labels": [[0, 1], []],
        "scores": [1, 1],
    }
    truth = truth_of(rows)
    assert (truth.key_frames.tolist(), truth.labels.tolist()) == (["a,0001", "a,0001", "b,0002"], [0, 1, 0])


def test_classes_may_be_a_file_a_set_or_a_number(root):
    (root / "labels.txt").write_text("wave\nsit\nrun\n")
    rows, classes = read(root, labels="labels.txt")
    assert classes == ["wave", "sit", "run"] and rows[0]["labels"] == [[0, 2], []]
    assert read(root, classes=["run", "wave"])[0][0]["labels"] == [[0, 1], []]
    (root / "list.csv").write_text("a,1,0,0,1,1,79,0\n")
    assert read(root, labels="ava")[0][0]["labels"] == [[78]] and len(read(root, labels="ava")[1]) == 80
    assert read(root, labels=80)[1][-1] == "80"
    with pytest.raises(ManifestError, match="its action is '79'"):
        read(root, labels=60)


def test_excluded_key_frames_are_left_out_of_their_list(root):
    (root / "out.csv").write_text("a,0001\n")
    excluded = BoxData(train_excluded="out.csv")
    assert list(read(root, boxes=excluded)[0]["video"]) == ["b"]
    assert list(read(root, boxes=excluded, classes=["run", "wave"])[0]["video"]) == ["a", "b"]
    assert list(read(root, boxes=BoxData(excluded="out.csv"), classes=["run", "wave"])[0]["video"]) == ["b"]


def test_lists_without_people_and_settings_without_effect_are_refused(root):
    with pytest.raises(RecipeError, match="data.layout changes nothing"):
        read(root, layout="kinetics")
    (root / "list.csv").write_text("a,1\n")
    with pytest.raises(ManifestError, match="no key frame with people"):
        read(root)


def test_key_frames_without_a_file_are_refused_or_left_out(root):
    rows, videos = read(root)[0], VideoFolder(root / "videos")
    with pytest.raises(ManifestError, match="videos: 1 of 2 key frames have no video, the first is b,0002. Get them"):
        with_files(rows, videos, root / "videos", False)
    assert list(with_files(rows, videos, root / "videos", True)["video"]) == ["a"]
    with pytest.raises(ManifestError, match="2 of 2"):
        with_files(rows, VideoFolder(root / "nothing"), root / "nothing", True)


def test_scores_are_those_of_the_action_and_of_the_person():
    rows = rows_of([KeyFrame("a", 1, [Box((0, 0, 0.5, 1)), Box((0, 0, 1, 1), (), 0.5)]), KeyFrame("b", 2)])
    assert len(rows) == 1
    found = found_in(rows, np.array([0, 0]), np.array([1, 0]), np.array([[0.8, 0.2, 0.4], [0.1, 0.3, 0.5]]))
    assert found.key_frames.tolist() == ["a,0001"] * 6 and found.labels.tolist() == [0, 1, 2] * 2
    np.testing.assert_allclose(found.scores, [0.4, 0.1, 0.2, 0.1, 0.3, 0.5])
    assert found.boxes[0].tolist() == [0, 0, 1, 1] and found.boxes[5].tolist() == [0, 0, 0.5, 1]


def test_scored_actions_are_all_some_or_those_of_a_label_map(tmp_path):
    names = ["bow", "run", "sit"]
    assert scored_classes(BoxData(), names, tmp_path) == [0, 1, 2]
    assert scored_classes(BoxData(actions=[3, 1]), names, tmp_path) == [0, 2]
    (tmp_path / "map.pbtxt").write_text('item { name: "run" id: 2 }')
    assert scored_classes(BoxData(actions="map.pbtxt"), names, tmp_path) == [1]
    with pytest.raises(RecipeError, match="data.boxes.actions has 4, expected numbers from 1 to 3"):
        scored_classes(BoxData(actions=[4]), names, tmp_path)


def test_an_evaluation_takes_true_boxes_or_those_of_a_detector(root):
    path = root / "list.csv"
    listed = read_evaluation_list(path, root, BoxData(), None)
    assert [len(row["boxes"]) for row in listed.rows] == [2, 1] and len(listed.truth) == 3
    (root / "found.csv").write_text("a,1,0,0,0.5,1,,0.9\na,1,0,0,1,1,,0.5\nb,2,0,0,1,1,,0.7\nc,1,0,0,1,1,,0.95\n")
    (root / "out.csv").write_text("b,3\n")
    listed = read_evaluation_list(path, root, BoxData(detections="found.csv", excluded="out.csv"), None)
    # The key frame of b is left without a box, and its truth stays: it is missed.
    assert [(row["video"], row["scores"]) for row in listed.rows] == [("a", [0.9]), ("c", [0.95])]
    assert len(listed.truth) == 3 and listed.excluded == {"b,0003"}
    with pytest.raises(ManifestError, match="found.csv: no box is left to score"):
        read_evaluation_list(path, root, BoxData(detections="found.csv", min_score=0.99), None)
