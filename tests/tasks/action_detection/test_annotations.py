"""Reading boxes and actions: AVA's files, your own, COCO's layout, and what is refused."""

import json

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.action_detection.annotations import (
    Box,
    KeyFrame,
    key_frame_name,
    read_annotations,
    read_boxes,
    read_detections,
    read_key_frames,
    read_label_map,
    read_predictions,
)

AVA = """\
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1
-5KQ66BBWC4,0902,0.226,0.032,0.366,0.497,12,0

-5KQ66BBWC4,0903,0.1,0.1,0.4,0.9,11,1
"""


@pytest.fixture
def file(tmp_path):
    def write(content: str, name: str = "list.csv"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


def test_lines_of_a_person_and_of_a_key_frame_belong_together(file):
    found = read_annotations(file(AVA))
    first, second = found.key_frames
    assert first == KeyFrame(
        "-5KQ66BBWC4", 902, [Box((0.077, 0.151, 0.283, 0.811), (8, 79)), Box((0.226, 0.032, 0.366, 0.497), (11,))]
    )
    assert (second.name, len(second.boxes)) == ("-5KQ66BBWC4,0903", 1)
    assert found.classes == [str(number) for number in range(1, 81)]


def test_rows_of_the_table_are_boxes_and_classes(file):
    table = read_annotations(file(AVA)).table()
    assert list(zip(table.key_frames, table.labels.tolist(), strict=True)) == [
        ("-5KQ66BBWC4,0902", 8),
        ("-5KQ66BBWC4,0902", 79),
        ("-5KQ66BBWC4,0902", 11),
        ("-5KQ66BBWC4,0903", 10),
    ]
    assert len(read_annotations(file("a,1\n")).table()) == 0


def test_names_of_actions_times_between_seconds_and_columns_in_any_order(file):
    found = read_annotations(
        file("\ufeffTime,video,x1,y1,x2,y2,label\n2.5,a,0,0,0.5,1,wave\n2.5,a,0.5,0,1,1,\n3,a,0,0,1,1,bow\n")
    )
    assert found.classes == ["bow", "wave"]
    assert [frame.name for frame in found.key_frames] == ["a,2.500", "a,0003"]
    assert found.key_frames[0].boxes == [Box((0, 0, 0.5, 1), (1,)), Box((0.5, 0, 1, 1), ())]


def test_classes_may_be_given_and_files_name_or_count_them(file):
    found = read_annotations(file("a,1,0,0,1,1,wave\na,1,0,0,1,1,3\n"), ["bow", "run", "wave"])
    assert (found.key_frames[0].boxes, found.classes) == ([Box((0, 0, 1, 1), (2,))], ["bow", "run", "wave"])


def test_a_key_frame_may_have_no_people_and_a_folder_several_files(file, tmp_path):
    file("a,1\nb,2.0,,,,,,\n", "first.csv"), file("b,0002,0,0,1,1,1\n", "second.csv")
    assert [(frame.name, len(frame.boxes)) for frame in read_annotations(tmp_path).key_frames] == [
        ("a,0001", 0),
        ("b,0002", 1),
    ]


def test_two_people_of_one_box_stay_two_and_boxes_are_cut_at_the_frame(file):
    found = read_annotations(file("a,1,-0.01,0,0.5,1.2,1,0\na,1,-0.01,0,0.5,1.2,2,1\n"))
    assert found.key_frames[0].boxes == [Box((0, 0, 0.5, 1), (0,)), Box((0, 0, 0.5, 1), (1,))]


def test_detections_of_low_score_and_key_frames_left_without_are_dropped(file):
    path = file("a,1,0,0,0.5,1,,0.9\na,1,0,0,1,1,,0.79\nb,1,0,0,1,1,,0.5\n")
    assert read_detections(path) == [KeyFrame("a", 1, [Box((0, 0, 0.5, 1), (), 0.9)])]
    assert [len(frame.boxes) for frame in read_detections(path, 0.5)] == [2, 1]


def test_predictions_keep_every_line_also_of_empty_boxes(file):
    path = file("a,0902,0.1,0.2,0.1,0.9,3,0.25000\na,902,0.1,0.2,0.3,0.9,run,1\n")
    found = read_predictions(path, ["bow", "sit", "eat", "run"])
    assert found.key_frames.tolist() == ["a,0902"] * 2
    assert (found.labels.tolist(), found.scores.tolist()) == ([2, 3], [0.25, 1])
    np.testing.assert_allclose(found.boxes, [[0.1, 0.2, 0.1, 0.9], [0.1, 0.2, 0.3, 0.9]])


def test_excluded_key_frames_and_label_maps(file):
    assert read_key_frames(file("a,0902\nb,17\n")) == {"a,0902", "b,0017"}
    both = 'item {\n  name: "close (e.g., a door, a \\"box\\")"\n  id: 22\n}\nlabel { name: "run" label_id: 10 }'
    assert read_label_map(file(both, "map.pbtxt")) == {22: 'close (e.g., a door, a "box")', 10: "run"}
    with pytest.raises(ManifestError, match="names no actions"):
        read_label_map(file("nothing", "map.pbtxt"))


def test_names_of_key_frames():
    assert [key_frame_name("a", time) for time in (7, 902.0, 1.5, 1.9999, 12345)] == [
        "a,0007",
        "a,0902",
        "a,1.500",
        "a,0002",
        "a,12345",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1,0,0,1", "line 2: it has 5 fields. Expected video_id,timestamp,x1"),
        (",1,0,0,1,1,1", "line 2: it names no video"),
        ("a,soon,0,0,1,1,1", "line 2: its time is 'soon'"),
        ("a,-1,0,0,1,1,1", "line 2: its time is '-1'"),
        ("a,inf,0,0,1,1,1", "line 2: its time is 'inf'"),
        ("a,1,0,nan,1,1,1", "line 2: its box is 0, nan, 1, 1"),
        ("a,1,0,,1,1,1", "line 2: its box is 0, , 1, 1"),
        ("a,1,10,20,100,200,1", "line 2: its box is 10, 20, 100, 200. Expected edges as fractions"),
        ("a,1,0.5,0,0.5,1,1", "line 2: its box 0.5, 0, 0.5, 1 has no area"),
        ("a,1,0.5,1,0.9,0,1", "line 2: .* has no area"),
        ("a,1,1.1,0,1.2,1,1", "line 2: its box .* lies outside the frame"),
        ("a,1,0,0,1,1,0", "line 2: its action is '0'. Expected the name of a class, or its number from 1"),
        ('a,1,0,0,1,1,"run', "line 2: it is not valid csv"),
    ],
)
def test_wrong_lines_are_refused_with_their_number(file, line, message):
    with pytest.raises(ManifestError, match=message):
        read_annotations(file(f"a,1,0,0,0.5,1,1\n{line}\n"))


@pytest.mark.parametrize("action", ["walk", "2.0", "-2", "100001"])
def test_actions_without_given_names_are_all_numbers_or_all_names(file, action):
    lines = f"a,1,0,0,0.5,1,1\na,1,0,0,1,1,{action}\n"
    with pytest.raises(ManifestError, match="its action is .*whole numbers from 1 to 100000 on all lines, or names"):
        read_annotations(file(lines))


@pytest.mark.parametrize(
    "header",
    [
        "video_id,timestamp,left,top,right,bottom,action",
        "video_id,timestamp,x1,y1,x2,action",
        "video_id,timestamp,action",
        "video_id,timestamp,x1,y1,x2,y2,action,label",
    ],
)
def test_columns_without_a_meaning_are_no_key_frames_without_people(file, header):
    fields = ["a", "1", "0", "0", "1", "1", "1", "1"][: header.count(",") + 1]
    for read in (read_annotations, read_detections, read_boxes):
        with pytest.raises(ManifestError, match=f"line 1: its columns are {header}"):
            read(file(f"{header}\n{','.join(fields)}\n"))


def test_predictions_in_pixels_are_refused(file):
    with pytest.raises(ManifestError, match="line 1: its box is 10, 20, 100, 200. Expected edges as fractions"):
        read_predictions(file("a,1,10,20,100,200,1,0.9\n"))


def test_actions_beyond_the_classes_are_refused(file):
    for action in ("3", "swim"):
        with pytest.raises(ManifestError, match=f"line 1: its action is '{action}'. Expected .* from 1 to 2"):
            read_annotations(file(f"a,1,0,0,1,1,{action}\n"), ["bow", "run"])


def test_more_than_a_thousand_boxes_are_refused(file):
    lines = "".join(f"a,1,{number / 2000},0,1,1,1\n" for number in range(1001))
    with pytest.raises(ManifestError, match="line 1001: a,0001 has more than 1000 boxes"):
        read_annotations(file(lines))


@pytest.mark.parametrize(
    ("content", "message"), [("a,1,0,0,1,1,,", "its score is None"), ("a,1,0,0,1,1,,2", "its score is '2'")]
)
def test_detections_need_scores(file, content, message):
    with pytest.raises(ManifestError, match=message):
        read_detections(file(content))


def test_files_that_cannot_be_read_are_named(tmp_path, file):
    with pytest.raises(ManifestError, match=r"none.csv: it cannot be opened"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="it holds no csv files"):
        read_annotations(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"\xe9,1,0,0,1,1,1")
    with pytest.raises(ManifestError, match="not text in UTF-8"):
        read_annotations(tmp_path / "latin.csv")


def coco(**changes) -> str:
    image = {"id": 5, "movie": "a", "timestamp": 902, "width": 200, "height": 100}
    box = {"image_id": 5, "category_id": 1, "bbox": [20, 10, 100, 50], "action_ids": [1, 3]}
    content = {"images": [image, {**image, "id": 6, "timestamp": 903}], "annotations": [box | changes]}
    return json.dumps(content)


def test_coco_counts_pixels_from_the_corner(file):
    found = read_annotations(file(coco(), "ava.json"))
    assert found.key_frames == [KeyFrame("a", 902, [Box((0.1, 0.1, 0.6, 0.6), (0, 2))]), KeyFrame("a", 903)]
    listed = [{"image_id": 6, "category_id": 1, "bbox": [0, 0, 200, 100], "score": 0.9}]
    listed += [{**listed[0], "category_id": 2}, {**listed[0], "score": 0.7}]
    path = file(json.dumps(listed), "detections.json")
    assert read_detections(path, images=found) == [KeyFrame("a", 903, [Box((0, 0, 1, 1), (), 0.9)])]
    with pytest.raises(ManifestError, match="needs annotations in COCO's layout"):
        read_detections(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "no images and annotations"),
        (coco(image_id=7), "annotation 1: its image_id is 7"),
        (coco(bbox=[1, 2, 3]), "annotation 1: it is"),
        (coco(bbox=[1, 2, float("nan"), 3]), "annotation 1: its bbox"),
        (coco(bbox=[1, 2, 0, 3]), "annotation 1: .* has no area"),
        (coco().replace('"width": 200', '"width": 0'), "image 1: it is"),
        (coco().replace('"movie"', '"film"'), "image 1: it is"),
        (coco().replace("902", "NaN"), "image 1: it is"),
        (coco().replace("902", "-1"), "image 1: it is"),
        (coco(image_id=[5]), "annotation 1: it is"),
        (coco(action_ids=3), "annotation 1: it is"),
        (coco(action_ids="run"), "annotation 1: it is"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_wrong_coco_files_are_refused(file, content, message):
    with pytest.raises(ManifestError, match=message):
        read_annotations(file(content, "ava.json"))
