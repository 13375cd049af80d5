"""Drawn people: boxes where they are, labels apart from each other, a video at its times."""

import numpy as np
import pytest
import torch
from tasks.temporal_localization.heads import write_holed
from video.clips import write_video

from internvideo_hf import VideoReader
from internvideo_hf.tasks.action_detection.detection import Action, Detections, Person
from internvideo_hf.tasks.action_detection.detectors import People
from internvideo_hf.tasks.action_detection.drawing import (
    _free_place,
    draw_montage,
    draw_people,
    draw_video,
    people_between,
)
from internvideo_hf.utils.pictures import COLORS, GAP, LINE, PAPER

STAND = [Action("stand", 0.9), Action("talk to (e.g., self, a person, a group)", 0.5)]


def person(track: int, box: tuple[float, float, float, float], actions=()) -> Person:
    return Person(track, box, 1.0, list(actions), 0)


def found(times: list[float], boxes: list[list], is_whole=None, duration: float = 2.0) -> Detections:
    """Return one person for each box, whose number is its place among the boxes of its key frame."""
    rows = [(key, place, box) for key, own in enumerate(boxes) for place, box in enumerate(own)]
    people = torch.tensor([box for _, _, box in rows]).reshape(-1, 4)
    return Detections(
        np.array(times),
        np.round(np.array(times) * 30).astype(int),
        np.array([True] * len(times) if is_whole is None else is_whole),
        torch.tensor([key for key, _, _ in rows], dtype=torch.int64),
        People(people, torch.ones(len(rows)), torch.arange(len(rows))),
        torch.tensor([place + 1 for _, place, _ in rows], dtype=torch.int64),
        torch.full((len(rows), 2), 0.5),
        ["stand", "sit"],
        (48, 64),
        duration,
    )


def is_color(picture: np.ndarray, track: int) -> np.ndarray:
    return (picture == COLORS[track - 1]).all(axis=-1)


def test_a_box_has_its_edges_where_the_person_is():
    frame = np.full((400, 600, 3), 255, np.uint8)
    picture = np.asarray(draw_people(frame, [person(2, (0.25, 0.25, 0.5, 0.75), STAND)], (360, 720)))
    assert picture.shape == (400, 600, 3)
    edges = is_color(picture, 2)[100:300]  # rows of the box; the label lies above
    assert np.flatnonzero(edges[50]).tolist() == [150, 151, 298, 299]
    assert edges[0, 150:300].all() and edges[-1, 150:300].all() and not edges[10:-10, 160:290].any()
    assert is_color(picture, 2)[:100].any() and not is_color(picture, 2)[300:].any()


@pytest.mark.parametrize(
    ("size", "drawn"), [((48, 64), (360, 480)), ((1080, 1920), (720, 1280)), ((400, 600), (400, 600))]
)
def test_small_frames_are_enlarged_and_large_ones_reduced(size, drawn):
    assert draw_people(np.zeros((*size, 3), np.uint8), [], (360, 720)).size == drawn[::-1]


def test_labels_stay_in_the_picture_and_off_each_other():
    rng = np.random.default_rng(0)
    for _ in range(100):
        placed: list = []
        corners = np.sort(rng.uniform((0, 0), (560, 300), (5, 2)), axis=0)
        boxes = [(left, top, left + 60, top + 90) for left, top in corners.tolist()]
        for box in boxes:
            placed.append(_free_place(box, (100, 30), (640, 400), placed, boxes))
        for number, (left, top, right, bottom) in enumerate(placed):
            assert 0 <= left <= right < 640 and 0 <= top <= bottom < 400
            for other in placed[:number]:
                width, height = min(right, other[2]) - max(left, other[0]), min(bottom, other[3]) - max(top, other[1])
                assert width <= 0 or height <= 0
    box = (100.0, 100.0, 160.0, 190.0)
    assert _free_place(box, (100, 30), (640, 400), [], [box])[:2] == (100, 70), "above"
    above = (90.0, 60.0, 300.0, 100.0)
    assert _free_place(box, (100, 30), (640, 400), [above], [box])[:2] == (100, 190), "else below"


def test_the_score_of_an_action_with_a_long_name_is_seen():
    frame, name = np.zeros((200, 200, 3), np.uint8), "circles around the others counterclockwise"
    drawn = [
        draw_people(frame, [Person(1, (0.1, 0.1, 0.4, 0.4), 1.0, [Action(name, score)], 0)], (200, 200))
        for score in (0.57, 0.12)
    ]
    assert (np.asarray(drawn[0]) != np.asarray(drawn[1])).any()


def test_between_key_frames_boxes_move_and_labels_are_those_of_the_nearer():
    left, right = (0.0, 0.0, 0.25, 0.5), (0.5, 0.0, 0.75, 0.5)
    people = [[person(1, left, STAND[:1]), person(2, left)], [person(1, right, STAND[1:])], []]
    (one, two) = people_between([1.0, 2.0, 3.0], people, 1.25)
    assert one.box == (0.125, 0, 0.375, 0.5) and one.actions == STAND[:1] and two.box == left
    (one,) = people_between([1.0, 2.0, 3.0], people, 1.75)
    assert one.box == (0.375, 0, 0.625, 0.5) and one.actions == STAND[1:]
    assert [p.track for p in people_between([1.0, 2.0, 3.0], people, 2.4)] == [1]
    assert people_between([1.0, 2.0, 3.0], people, 2.6) == []
    assert people_between([1.0, 2.0, 3.0], people, 2.0)[0].box == right


def test_far_from_every_key_frame_nothing_is_shown():
    people = [[person(1, (0.0, 0.0, 0.5, 0.5))], [person(1, (0.5, 0.0, 1.0, 0.5))]]
    assert [len(people_between([2.0, 8.0], people, time)) for time in (0.5, 1.5, 2.9, 3.5, 7.5, 8.5, 9.5)] == [
        0, 1, 1, 0, 1, 1, 0,
    ]  # fmt: skip
    assert people_between([2.0, 8.0], people, 2.5)[0].box == (0.0, 0.0, 0.5, 0.5)
    assert people_between([], [], 1.0) == []


def test_a_montage_has_key_frames_with_people_and_their_times(tmp_path):
    video = str(write_video(tmp_path / "clip.mp4", 60))
    box = [0.25, 0.25, 0.5, 0.75]
    picture = np.asarray(draw_montage(video, found([0.0, 0.5, 1.0, 1.5], [[box], [], [box, box], [box]])))
    assert picture.shape == (2 * GAP + 300 + LINE, GAP + 3 * (400 + GAP), 3), "three have people"
    with VideoReader(video) as reader:
        frames = reader.read([0, 30, 45])
    for place, frame in enumerate(frames):
        tile = picture[GAP : GAP + 300, GAP + place * (400 + GAP) :][:, :400]
        np.testing.assert_allclose(tile[:, 325:].mean(axis=(0, 1)), frame[:, 52:].mean(axis=(0, 1)), atol=4)
        assert is_color(tile, 1).sum() > 500
    none = np.asarray(draw_montage(video, found([0.0, 1.0], [[], []])))
    assert none.shape[1] == GAP + 2 * (400 + GAP)
    assert (np.asarray(draw_montage(video, found([0.0], [[]], [False])))[0] == PAPER).all()


def test_a_video_is_written_with_its_frames_at_their_times(tmp_path):
    video = str(write_video(tmp_path / "clip.mp4", 30, times=[3 * i for i in range(30)]))
    draw_video(
        video, found([0.0, 1.0, 2.0], [[[0.25, 0.25, 0.5, 0.75]], [[0.5, 0.25, 0.75, 0.75]], []]), tmp_path / "o/d.mp4"
    )
    with VideoReader(video) as before, VideoReader(tmp_path / "o/d.mp4") as after:
        assert (after.num_frames, after.height, after.width) == (30, 360, 480)
        np.testing.assert_allclose(after.seconds, before.seconds, atol=2e-3)
        drawn = after.read([0, 5, 10, 29]).astype(int)
        plain = before.read([29])[0]
    # Columns that are blue from above to below in the middle of the box are its edges.
    blue = [(np.abs(frame[110:250] - COLORS[0]).sum(axis=-1) < 90).mean(axis=0) > 0.7 for frame in drawn]
    assert np.flatnonzero(blue[0])[[0, -1]] == pytest.approx([120, 239], abs=3)
    assert np.flatnonzero(blue[1])[[0, -1]] == pytest.approx([180, 299], abs=3), "half the way to the next key frame"
    assert np.flatnonzero(blue[2])[[0, -1]] == pytest.approx([240, 359], abs=3)
    np.testing.assert_allclose(drawn[3].mean(axis=(0, 1)), plain.mean(axis=(0, 1)), atol=4)


def test_damaged_frames_are_left_out_of_the_video(tmp_path):
    video = str(write_holed(tmp_path / "holed.mkv", 40, 18, 20))
    draw_video(video, found([0.0], [[]], duration=4 / 3), tmp_path / "drawn.mp4")
    with VideoReader(tmp_path / "drawn.mp4") as reader:
        assert reader.num_frames == 38 and reader.seconds[18] == pytest.approx(20 / 30, abs=2e-3)
