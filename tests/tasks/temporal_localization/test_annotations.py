"""Readers of annotations and of classifiers' scores."""

import json

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_localization.annotations import (
    read_annotations,
    read_class_scores,
    without_duplicates,
)

DATABASE = {
    "one": {
        "subset": "Training",
        "duration": 12.5,
        "annotations": [{"segment": [1, 2.5], "label": "run"}, {"segment": [3, 4], "label": "jump"}],
    },
    "two": {"subset": "validation", "fps": 25, "annotations": [{"segment": [0, 1], "label": "run"}]},
    "three": {"subset": "testing"},
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_activitynet_names_classes_and_they_are_numbered_in_alphabetical_order(tmp_path):
    found = read_annotations(write(tmp_path / "a.json", {"version": "1.3", "database": DATABASE}))
    assert found.classes == {0: "jump", 1: "run"}
    one = found.of_subset("training")["one"]
    assert one.segments.tolist() == [[1, 2.5], [3, 4]] and one.labels.tolist() == [1, 0]
    assert (one.duration, one.fps, found.videos["two"].fps) == (12.5, None, 25)
    assert len(found.of_subset("TESTING")["three"].labels) == 0
    truth = found.ground_truth("validation")
    assert truth.videos.tolist() == ["two"] and truth.labels.tolist() == [1]
    assert len(found.ground_truth("testing").labels) == 0


def test_classes_may_be_given_and_label_ids_are_kept(tmp_path):
    path = write(tmp_path / "a.json", {"database": DATABASE})
    assert read_annotations(path, ["run", "sit", "jump"]).videos["one"].labels.tolist() == [0, 2]
    with pytest.raises(ManifestError, match="class 'jump' is not one of the 1 classes that the model knows"):
        read_annotations(path, ["run"])
    rows = [{"segment": [0, 1], "label": "z", "label_id": 0}, {"segment": [0, 1], "label": "a", "label_id": 7}]
    numbered = {"database": {"v": {"subset": "x", "annotations": rows}}}
    found = read_annotations(write(tmp_path / "b.json", numbered))
    assert found.classes == {0: "z", 7: "a"} and found.videos["v"].labels.tolist() == [0, 7]


def test_repeated_segments_count_once_in_the_truth(tmp_path):
    segments = np.array([[1, 2], [1.0005, 2], [1, 2], [1, 2.01]], dtype=np.float32)
    kept, labels = without_duplicates(segments, np.array([0, 0, 1, 0]))
    assert labels.tolist() == [0, 1, 0] and kept[:, 1].tolist() == pytest.approx([2, 2, 2.01])
    rows = [{"segment": [1, 2], "label": "a"}] * 3
    path = write(tmp_path / "a.json", {"database": {"v": {"subset": "x", "annotations": rows}}})
    assert len(read_annotations(path).ground_truth("x").labels) == 1
    assert len(read_annotations(path).videos["v"].labels) == 3


def test_thumos_folder(tmp_path):
    (tmp_path / "Diving_val.txt").write_text("v1  1.5 3\nv2 0 1\n\n")
    (tmp_path / "CliffDiving_val.txt").write_text("v1 1.5 3\n")
    (tmp_path / "Diving_test.txt").write_text("v3 2 4\n")
    (tmp_path / "Ambiguous_val.txt").write_text("v1 7 8\n")
    (tmp_path / "readme.txt").write_text("not this one")
    found = read_annotations(tmp_path)
    assert found.classes == {0: "CliffDiving", 1: "Diving"}
    assert list(found.of_subset("validation")) == ["v1", "v2"] and list(found.of_subset("test")) == ["v3"]
    assert found.videos["v1"].segments.tolist() == [[1.5, 3], [1.5, 3]]
    assert found.videos["v1"].labels.tolist() == [0, 1]
    (tmp_path / "Diving_val.txt").write_text("v1 1.5\n")
    with pytest.raises(ManifestError, match=r"Diving_val.txt, line 1: it is 'v1 1.5'"):
        read_annotations(tmp_path)
    for line in ("v nan 3", "v 0 inf"):
        (tmp_path / "Diving_val.txt").write_text(f"v1 1 2\n{line}\n")
        with pytest.raises(ManifestError, match=f"Diving_val.txt, line 2: it is '{line}'"):
            read_annotations(tmp_path)
    (tmp_path / "Diving_val.txt").write_bytes(b"v\xff 1 2\n")
    with pytest.raises(ManifestError, match="Diving_val.txt: it is not text in UTF-8"):
        read_annotations(tmp_path)


def test_segments_that_nothing_can_match_are_counted_in_a_warning(tmp_path, caplog):
    rows = [{"segment": segment, "label": "a"} for segment in ([5, 3], [2, 2], [0, 1], [20, 22])]
    video = {"subset": "x", "duration": 10, "annotations": rows}
    path = write(tmp_path / "a.json", {"database": {"v": video}})
    assert len(read_annotations(path).videos["v"].labels) == 4
    assert "of the segments, 2 end where they begin, or before and 1 begin behind the video" in caplog.text


def test_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="CLASS_val.txt"):
        read_annotations(tmp_path)


def test_unknown_subsets_are_refused_with_the_known_ones(tmp_path):
    found = read_annotations(write(tmp_path / "a.json", {"database": DATABASE}))
    with pytest.raises(ValueError, match="'val' holds no videos; the subsets .* testing, training, validation"):
        found.ground_truth("val")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "v: it names no subset"),
        ({"subset": "x", "fps": 0}, "v: its fps is 0"),
        ({"subset": "x", "duration": "long"}, "v: its duration is 'long'"),
        ({"subset": "x", "annotations": [{"label": "a"}]}, "v, annotation 1: it lacks a segment"),
        ({"subset": "x", "annotations": [{"segment": [1], "label": "a"}]}, r"its segment is \[1\]"),
        ({"subset": "x", "annotations": [{"segment": [1, float("nan")], "label": "a"}]}, "its segment is"),
        ({"subset": "x", "annotations": [{"segment": [1, 2], "label_id": "3"}]}, "its label_id is '3'"),
        ({"subset": "x", "annotations": [{"segment": [1, 2], "label_id": 10**30}]}, "its label_id is 1000"),
        ({"subset": "x", "annotations": [{"segment": [1, 2], "label": None}]}, "its label is None"),
        ({"subset": "x", "annotations": [{"segment": [1, 2], "label": ["a"]}]}, r"its label is \['a'\]"),
        ({"subset": "x", "annotations": [{"segment": [1, 1e300], "label": "a"}]}, r"its segment is \[1, 1e\+300\]"),
        ({"subset": "x", "annotations": [{"segment": [1, 10**400], "label": "a"}]}, r"its segment is \[1, 10"),
        ({"subset": "x", "annotations": 5}, "v: its annotations are no list"),
        ({"subset": "x", "duration": 10**400}, "v: its duration is 100"),
        (
            {"subset": "x", "annotations": [{"segment": [0, 1], "label": name, "label_id": 0} for name in "ab"]},
            "its label_id 0 goes with 'a' and 'b'",
        ),
        (
            {
                "subset": "x",
                "annotations": [{"segment": [0, 1], "label": "a", "label_id": number} for number in (0, 3)],
            },
            "its label 'a' goes with 0 and 3",
        ),
    ],
)
def test_incomplete_annotations_are_refused(tmp_path, entry, message):
    with pytest.raises(ManifestError, match=message):
        read_annotations(write(tmp_path / "a.json", {"database": {"v": entry}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "holds a list"),
        ("{}", "no videos in 'database'"),
        ('{"database": []}', "no vid"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_annotations(tmp_path / "a.json")
    with pytest.raises(ManifestError, match="cannot be opened"):
        read_annotations(tmp_path / "b.json")


def test_class_scores_stand_alone_or_in_results_and_may_be_nested_once(tmp_path):
    scores = {"a": [0.25, 0.75], "b": [[1, 2]]}
    for content in (scores, {"version": "1", "results": scores}):
        found = read_class_scores(write(tmp_path / "s.json", content))
        assert {name: row.tolist() for name, row in found.items()} == {"a": [0.25, 0.75], "b": [1, 2]}
    for row in ([], [[1], [2]], "x", [None], 3, [10**400]):
        with pytest.raises(ManifestError, match="a: its scores are not one row of numbers"):
            read_class_scores(write(tmp_path / "s.json", {"a": row}))
    with pytest.raises(ManifestError, match="its scores are no object"):
        read_class_scores(write(tmp_path / "s.json", {"results": [1]}))
