"""Labelled lists: names or numbers, and what does not suit the model."""

from pathlib import Path

import pytest

from internvideo_hf import ManifestError
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.labelled_clips import check_classes, read_labelled_clips
from internvideo_hf.tasks.protocol import DataSettings


def test_labels_are_names_or_numbers(tmp_path):
    (tmp_path / "val.csv").write_text("b.mp4,jumps\na.mp4,runs\n")
    rows = read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])
    assert [(row["video"], row["label"]) for row in rows] == [
        (str(tmp_path / "b.mp4"), 1),
        (str(tmp_path / "a.mp4"), 0),
    ]


def test_lists_and_models_of_other_classes_are_refused(tmp_path):
    (tmp_path / "val.csv").write_text("b.mp4,2\na.mp4,0\n")
    (tmp_path / "captions.csv").write_text("video,caption\na.mp4,a dog\n")
    with pytest.raises(RecipeError, match="rows without a label"):
        read_labelled_clips(DataSettings("captions.csv"), tmp_path, "model", ["runs", "jumps"])
    with pytest.raises(RecipeError, match="does not know the classes of data.labels=hmdb51"):
        read_labelled_clips(DataSettings("val.csv", labels="hmdb51"), tmp_path, "model", ["runs", "jumps"])
    with pytest.raises(ValueError, match="label is 2|label 2"):
        read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])


def test_a_clip_with_two_labels_is_refused(tmp_path):
    (tmp_path / "val.csv").write_text("a.mp4,runs\nb.mp4,runs\na.mp4,jumps\n")
    with pytest.raises(RecipeError, match="a.mp4 two labels, 'runs' and 'jumps', expected one"):
        read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])
    (tmp_path / "parts.csv").write_text("video,label,start,end\na.mp4,runs,0,1\na.mp4,jumps,1,2\n")
    assert len(read_labelled_clips(DataSettings("parts.csv"), tmp_path, "model", ["runs", "jumps"])) == 2


def test_folders_are_read_by_the_names_of_the_models_classes(tmp_path):
    for file in ("validation/runs/a.mp4", "validation/jumps/b.mp4"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    for name in ("val.csv", "validation"):
        rows = read_labelled_clips(DataSettings(name), tmp_path, "model", ["runs", "jumps"])
        assert [(Path(row["video"]).name, row["label"]) for row in rows] == [("b.mp4", 1), ("a.mp4", 0)]
    with pytest.raises(ManifestError, match="the label 'jumps' is none of the 2 class names; .*'jump'"):
        read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jump"])


def test_a_file_names_the_classes(tmp_path):
    (tmp_path / "names.txt").write_text("runs\njumps\n")
    (tmp_path / "val.csv").write_text("a.mp4,jumps\n")
    data = DataSettings("val.csv", labels="names.txt")
    for classes in (["runs", "jumps"], ["LABEL_0", "LABEL_1"]):
        assert read_labelled_clips(data, tmp_path, "model", classes)[0]["label"] == 1
    with pytest.raises(RecipeError, match="has the classes jumps, runs, and data.labels=names.txt runs, jumps"):
        read_labelled_clips(data, tmp_path, "model", ["jumps", "runs"])


def test_classes_are_compared_by_name_and_order():
    check_classes("model", ["runs"], None)
    check_classes("model", load_labels("ucf101"), "ucf101")
    with pytest.raises(RecipeError, match="by name and in order. Convert it with --head ucf101"):
        check_classes("model", load_labels("ucf101")[::-1], "ucf101")
