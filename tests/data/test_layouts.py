"""Layouts of lists: separators, names of columns, and labels that are names."""

import pytest

from internvideo_hf.data.layouts import LAYOUTS, BadRow, delimiter_of, layout_of, named_layout


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("a.mp4 3", " "),
        ("a b.mp4 riding a bike", " "),
        ("a.mp4 riding a bike, slowly", " "),
        ("a.mp4,3", ","),
        ("a.mp4;3", ";"),
        ("a.mp4;walks, then runs", ";"),
        ("a;b.mp4,3", ","),
        ("new, old/a.mp4;walk", ";"),
        ("a.mp4\twalks; runs, jumps", "\t"),
        ("frames,37,2", ","),
        ("frames;37;2", ";"),
        ("https://x.org/a?b=1,2", ","),
        ("Video;Label", ";"),
        ("video,caption", ","),
    ],
)
def test_fields_are_separated_by_what_leaves_a_file(line, mark):
    assert delimiter_of(line) == mark


@pytest.mark.parametrize(
    ("line", "layout", "row"),
    [
        ("a b.mp4 riding a bike", "kinetics", {"video": "a b.mp4", "label": "riding a bike"}),
        ("a.MP4 level 2", "kinetics", {"video": "a.MP4", "label": "level 2"}),
        ("a.mp4 2", "kinetics", {"video": "a.mp4", "label": "2"}),
        ("a.mp4 copy.mp4", "paths", {"video": "a.mp4 copy.mp4"}),
        ("a.mp4 12 2", "frames", {"video": "a.mp4", "num_frames": "12", "label": "2"}),
    ],
)
def test_a_line_of_a_file_and_a_name(line, layout, row):
    record = {"line": line, "delimiter": " "}
    assert layout_of(record) is LAYOUTS[layout]
    assert list(LAYOUTS[layout].rows(record)) == [row]


@pytest.mark.parametrize("name", ["video", "Path", " filename", "file_name", "FILE", "clip", "video_path"])
def test_columns_have_many_names_in_capitals_or_not(name):
    record = {name: "a.mp4", "Class": "walk", "Text": "a man", "": "0", "split": "train"}
    layout = layout_of(record)
    assert list(layout.rows(record)) == [{"video": "a.mp4", "label": "walk", "caption": "a man"}]


def test_a_layout_that_nobody_reads_is_met_with_those_that_are_read():
    with pytest.raises(BadRow) as raised:
        layout_of({"movie": "a.mp4", "kind": "walk"})
    cause, advice = raised.value.args
    assert cause == "nothing says which video is meant: there are movie, kind"
    for word in ("folder of clips for each class", "path,label", "semicolons", "header", "Kinetics"):
        assert word in advice
    assert named_layout(["movie", "kind"]) is None
