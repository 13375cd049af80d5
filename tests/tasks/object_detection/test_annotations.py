"""Annotated frames of Ego4D, version 1 and 2, and of COCO's layout."""

import json

import pytest
from tasks.object_detection.state_changes import box, clip, moment, write_scod

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.object_detection.annotations import Frame, read_frames
from internvideo_hf.tasks.protocol import FrameData

CHANGE, HAND = box("object_of_change", 10, 20, 30, 5.5), box("left_hand", 0, 0, 5, 5)
FRAMES = {
    "pre_frame": moment(7, [CHANGE, HAND], 2),
    "pnr_frame": moment(9, [HAND]),
    "post_frame": moment(12, [CHANGE] * 2),
}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_each_clip_has_three_frames_of_which_the_changed_object_counts(tmp_path, version):
    path = write_scod(tmp_path / "fho_scod_val.json", [clip("c", "v", FRAMES)], version=version)
    first, second, third = read_frames(path, FrameData())
    assert first == Frame(1, "v", "pre_frame", 7, "c", "id of c", 2, None, 96, 64, ((10, 20, 30, 5.5),))
    assert (second.image, second.moment, second.boxes) == (2, "pnr_frame", ())
    assert third.boxes == ((10, 20, 30, 5.5),) * 2 and third.name == "v, frame 12"
    (only,) = read_frames(path, FrameData(moments=["pnr_frame"], object_type="left_hand"))
    assert (only.image, only.boxes) == (1, ((0, 0, 5, 5),))


def test_frames_of_the_test_file_are_not_annotated(tmp_path):
    frames = {"pre_frame": moment(7, None), "pnr_frame": None, "post_frame": {"frame_number": 9}}
    found = read_frames(write_scod(tmp_path / "a.json", [clip("c", "v", frames)]), FrameData())
    assert [(frame.number, frame.boxes, frame.width) for frame in found] == [(7, None, 96), (9, None, None)]
    assert found[1].clip_number is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"video_uid": 3}, "clip 1: video_uid is 3, expected text"),
        ({"pre_frame": 3}, "clip 1, pre_frame: it is 3, expected an object"),
        ({"pre_frame": {"bbox": []}}, "clip 1, pre_frame: it has no 'frame_number'"),
        ({"pre_frame": {"frame_number": -1, "bbox": []}}, "from 0"),
        ({"pre_frame": {"frame_number": 1, "width": 0}}, "its width is 0"),
        ({"pre_frame": moment(1, [{"object_type": "object_of_change", "bbox": [1, 2, 3, 4]}])}, "a box is"),
        ({"pre_frame": moment(1, [{"object_type": "object_of_change", "bbox": {"x": 1}}])}, "it has no 'y'"),
        ({"pre_frame": moment(1, [{"bbox": {}}])}, "it has no 'object_type'"),
        ({"pre_frame": None, "pnr_frame": None, "post_frame": None}, "it has no frame of pre_frame, pnr_frame"),
    ],
)
def test_what_is_incomplete_is_refused_with_its_place(tmp_path, broken, message):
    path = write_scod(tmp_path / "fho_scod_val.json", [{**clip("c", "v", FRAMES), **broken}])
    with pytest.raises(ManifestError, match=message):
        read_frames(path, FrameData())


def test_coco_frames_keep_their_numbers(tmp_path):
    content = {
        "images": [{"id": 40, "file_name": "v/1.jpg", "width": 9, "height": 8}, {"id": 7, "file_name": "v/2.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 40, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 40, "category_id": 5, "bbox": [1, 2, 3, 4.5]},
        ],
        "categories": [{"id": 5, "name": "object_of_change"}, {"id": 2, "name": "hand"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    first, second = read_frames(tmp_path / "coco.json", FrameData())
    assert (first.image, first.file, first.boxes, first.height) == (40, "v/1.jpg", ((1, 2, 3, 4.5),), 8)
    assert (second.image, second.boxes, second.width) == (7, (), None)
    with pytest.raises(ManifestError, match="no category 'cup', but object_of_change, hand"):
        read_frames(tmp_path / "coco.json", FrameData(object_type="cup"))
    content["annotations"][0] = {"image_id": 40, "bbox": [1, 2, 3]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match="annotation 1: it is .*Expected image_id and bbox"):
        read_frames(tmp_path / "coco.json", FrameData())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"images": {}}, "it has no list 'images'.*Correct it"),
        ({"images": []}, "it has no image"),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]},
            "image 2: its id 1 is that of image 1",
        ),
        ({"categories": ["cup"]}, "categories 1: it is a str, expected an object"),
        ({"annotations": ["a"]}, "annotations 1: it is a str, expected an object"),
        ({"annotations": [{"image_id": [1], "bbox": [1, 2, 3, 4]}]}, "annotation 1: it is .*Expected image_id"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, 3, float("nan")]}]}, "annotation 1: it is .*four finite"),
        ({"annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}]}, "its image_id 9 is none of the 1 images"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_refused_with_its_place(tmp_path, broken, message):
    content = {"images": [{"id": 1, "file_name": "v/1.jpg"}], "annotations": [], **broken}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=message):
        read_frames(tmp_path / "coco.json", FrameData())
