"""Annotations of future hand prediction: the documented layouts, entries that are not right, the challenge's file."""

import json
from pathlib import Path

import numpy as np
import pytest
from tasks.hand_prediction.lists import clip, document, moments

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.hand_prediction.annotations import read_hands, read_predictions, write_predictions

HANDS = {
    "pre_45": {"left": [1.5, 2], "right": [3, 4]},
    "pre_15": {"right": [5, 6.25]},
    "contact_frame": {"left": [7, 8]},
    "pnr_frame": {"left": [99, 99]},  # no moment of the task
}


def write(folder: Path, content) -> Path:
    path = folder / "fho_hands_train.json"
    path.write_text(json.dumps(content))
    return path


def test_hands_of_five_moments_are_read_in_the_order_of_the_numbers(tmp_path):
    content = document(clip(3, [moments(36278, 519, HANDS), moments(40000, 900, {})]), clip(8, [moments(61, 61, {})]))
    found = read_hands(write(tmp_path, content))
    assert [(entry.name, entry.clip, entry.video) for entry in found] == [
        ("3_36277", "clip-3", "video-3"),
        ("3_39999", "clip-3", "video-3"),
        ("8_60", "clip-8", "video-8"),
    ]
    assert (found[0].frame, found[0].clip_frame) == (36278, 519)
    wanted = [1.5, 2, 3, 4] + [0] * 4 + [0, 0, 5, 6.25] + [0] * 4 + [7, 8, 0, 0]
    assert found[0].points.tolist() == wanted
    assert found[0].known.tolist() == [number != 0 for number in wanted]
    assert not found[1].known.any() and not found[1].points.any()


def test_the_test_set_and_frames_of_whole_videos_are_read(tmp_path):
    unannotated = {time: {"frame": 36278 + step, "clip_frame": 519 + step} for step, time in enumerate(["pre_45"])}
    second = {"pre_45": {"frame": 100, "clip_frame": 40}, "pre_30": {"frame": 115, "clip_frame": 55}}
    (first, other) = read_hands(write(tmp_path, document(clip(3, [unannotated, second]), split="test")))
    assert (first.name, other.name) == ("3_36277", "3_99") and not (first.known.any() or other.known.any())
    (whole,) = read_hands(write(tmp_path, {"clips": [clip(3, [moments(50, None, HANDS)])], "version": "2"}))
    assert whole.clip_frame is None and whole.known.sum() == 8


def test_the_original_leaves_out_moments_of_two_fields_and_this_does_not(tmp_path):
    action = moments(50, None, HANDS)
    path = write(tmp_path, document(clip(1, [action])))
    assert len(action["pre_45"]) == 2
    (ours,), (theirs,) = read_hands(path), read_hands(path, as_published=True)
    assert ours.known.sum() == 8 and not theirs.known.any()
    action["pre_30"] = 7
    with pytest.raises(ManifestError, match="pre_30: expected an object"):
        read_hands(write(tmp_path, document(clip(1, [action]))), as_published=True)


def test_the_last_of_two_left_hands_counts(tmp_path):
    action = moments(50, 50, {})
    action["pre_30"]["boxes"] = [{"left_hand": [1, 1]}, {"right_hand": [2, 2]}, {"left_hand": [3, 3]}]
    (found,) = read_hands(write(tmp_path, document(clip(1, [action]))))
    assert found.points[4:8].tolist() == [3, 3, 2, 2]


def broken(change) -> dict:
    first, second = moments(50, 50, HANDS), moments(80, 80, HANDS)
    change(second)
    return document(clip(1, [first]), clip(7, [first, second]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda action: action.pop("pre_45"), ["no 'pre_45'"]),
        (lambda action: action["pre_45"].pop("frame"), ["no 'frame'"]),
        (lambda action: action["pre_45"].update(frame=-1), ["frame is -1"]),
        (lambda action: action["pre_45"].update(frame=10**400), ["frame is 1000", "expected a finite number"]),
        (lambda action: action.update(pre_45=3), ["pre_45 is 3"]),
        (lambda action: action.update(pre_30=3), ["pre_30", "list 'boxes'"]),
        (lambda action: action["pre_30"].update(boxes=[[1, 2]]), ["pre_30", "list 'boxes'"]),
        (lambda action: action["pre_15"]["boxes"].append({"left_hand": [1]}), ["pre_15", "left_hand is [1]"]),
        (
            lambda action: action["contact_frame"]["boxes"].append({"right_hand": [1, float("nan")]}),
            ["contact_frame", "right_hand is [1, nan]", "two finite numbers"],
        ),
    ],
)
def test_one_bad_entry_is_named(tmp_path, change, words):
    path = write(tmp_path, broken(change))
    with pytest.raises(ManifestError) as caught:
        read_hands(path)
    for word in (str(path), "clips 2 (clip_id 7), frames 2", *words):
        assert word in str(caught.value)


def test_clips_without_frames_are_named(tmp_path):
    early = {"clip_id": 3, "clip_uid": "a", "video_uid": "b"}
    with pytest.raises(ManifestError, match=r"clips 1 \(clip_id 3\): it has no 'frames'|clips 1: it has no 'frames'"):
        read_hands(write(tmp_path, document(early)))
    with pytest.raises(ManifestError, match="no clip has frames"):
        read_hands(write(tmp_path, document(clip(1, []))))
    with pytest.raises(ManifestError, match=r"clips 1: clip_id is \[3\], expected a number or text"):
        read_hands(write(tmp_path, document({**clip(1, []), "clip_id": [3]})))
    with pytest.raises(ManifestError, match="no list 'clips'"):
        read_hands(write(tmp_path, {"videos": []}))


def test_predictions_are_written_and_read_and_a_sum_of_views_is_divided(tmp_path):
    rows = np.arange(60, dtype=float).reshape(3, 20)
    rows[1] = np.nan
    path = tmp_path / "predictions.json"
    write_predictions(path, ["3_1", "3_2", "4_5"], rows)
    found = read_predictions(path)
    assert list(found) == ["3_1", "4_5"] and found["4_5"].tolist() == rows[2].tolist()
    assert read_predictions(path, views=2)["4_5"].tolist() == (rows[2] / 2).tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [([1], "a list"), ({}, "expected an object"), ({"3_1": [0] * 19}, "3_1"), ({"3_1": [None] * 20}, "3_1")],
)
def test_other_predictions_are_refused(tmp_path, content, words):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=words):
        read_predictions(path)
