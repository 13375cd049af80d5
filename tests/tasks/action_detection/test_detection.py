"""From a video to people and actions: which pixels and boxes the model gets, gaps, resumption, rows that fit."""

import numpy as np
import pytest
import torch
from tasks.action_detection.small import Echo, echo_processor
from tasks.temporal_localization.heads import write_holed
from video.clips import moving_picture, write_video

from internvideo_hf import VideoReader
from internvideo_hf.tasks.action_detection.data import ClipRule
from internvideo_hf.tasks.action_detection.detection import ActionDetector
from internvideo_hf.tasks.action_detection.detectors import People, PersonDetector, parse_boxes
from internvideo_hf.tasks.action_detection.videos import Movie
from internvideo_hf.tasks.box_views import evaluation_view
from internvideo_hf.tasks.key_frames import context_frames
from internvideo_hf.tasks.protocol import BoxData
from internvideo_hf.video.errors import VideoDecodeError

LEFT, RIGHT = [0.0, 0.0, 0.25, 0.5], [0.5, 0.25, 1.0, 1.0]


class TwoPeople(PersonDetector):
    """Finds two people in every frame but every third, which has none."""

    def __init__(self):
        self.seen: list[np.ndarray] = []

    def facts(self):
        return {"detector": "two"}

    def detect(self, frames):
        self.seen += frames
        boxes, scores = torch.tensor([LEFT, RIGHT]), torch.tensor([1.0, 0.5])
        found = People(boxes, scores, torch.arange(2))
        return [found if (len(self.seen) - len(frames) + n) % 3 < 2 else found.select([]) for n in range(len(frames))]


def frames_of(num_frames: int = 90) -> np.ndarray:
    return moving_picture(num_frames, 48, 64)


def means(frames: np.ndarray, key: int, rows: slice, columns: slice) -> np.ndarray:
    """Return the mean color, 0-1, of a part of the frames around a key frame."""
    context = context_frames(key, len(frames), 4, 2)
    return frames[context][:, rows, columns].mean(axis=(0, 1, 2)) / 255


def test_scores_are_of_the_pixels_in_the_boxes_of_the_key_frame():
    frames, model = frames_of(), Echo()
    detector = ActionDetector(model, echo_processor(), TwoPeople(), every=0.5, batch_size=4)
    with VideoReader(frames, fps=30) as reader:
        found = detector.detect(reader)
    assert found.times.tolist() == [0, 0.5, 1, 1.5, 2, 2.5] and found.frames.tolist() == [0, 15, 30, 45, 60, 75]
    assert found.key_frames.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    # Of LEFT, 16 x 24 pixels, 5 % of the width and 2.5 % of the height are added on each side within the frame.
    for row, key in ((0, 0), (2, 15), (4, 45), (6, 60)):
        expected = means(frames, key, slice(0, 25), slice(0, 17))
        np.testing.assert_allclose(found.scores[row], expected, atol=1e-4)
        expected = means(frames, key, slice(11, 48), slice(30, 64)) * 0.5
        np.testing.assert_allclose(found.scores[row + 1], expected, atol=1e-4)
    np.testing.assert_array_equal(detector.detector.seen, frames[[0, 15, 30, 45, 60, 75]])
    assert [shape[0] for shape in model.shapes] == [3, 1], "clips without people cost nothing"
    assert found.gaps == [] and found.duration == 3


def test_boxes_follow_the_resize_and_padding_is_told():
    model = Echo()
    given = parse_boxes([{"time": 1, "boxes": [RIGHT]}])
    processor = echo_processor(size={"shortest_edge": 24})
    with VideoReader(moving_picture(60, 48, 68), fps=30) as reader:
        ActionDetector(model, processor).detect(reader, given)
    assert model.shapes == [(1, 4, 3, 32, 48)], "24 x 34, padded to whole patches"
    assert model.masks[0].sum() == 24 * 34 and model.masks[0][0, :24, :34].all()
    ((boxes,),) = model.boxes
    # 34 to 67 of 68 columns and 12 to 47 of 48 rows, halved; then 5 % of 17.5, 2.5 % of 18.5 more on each side.
    np.testing.assert_allclose(boxes, [[17 - 0.875, 6 - 0.4625, 33, 23]], rtol=1e-6)


def test_the_model_sees_what_an_evaluation_shows_it(tmp_path):
    """Of key frames in the middle, at an end, and with a box at the border."""
    video = write_video(tmp_path / "clip.mp4", 75, size=(48, 70))
    processor = echo_processor(do_center_crop=False, size={"shortest_edge": 40}, do_normalize=True)
    rule, model = ClipRule.of(processor, BoxData(), 3), Echo()
    for time, boxes in ((0.0, [LEFT]), (1.3, [LEFT, RIGHT]), (2.4, [[0.31, 0.17, 0.83, 0.99]])):
        ActionDetector(model, processor).detect(video, parse_boxes([{"time": time, "boxes": boxes}]))
        frames = Movie(video).read(time, rule.num_frames, rule.stride)
        pixels, geometry = evaluation_view(torch.from_numpy(frames).permute(0, 3, 1, 2), rule.pixels)
        torch.testing.assert_close(model.pixels[-1][0, ..., :40, :58], pixels, rtol=0, atol=1e-6)
        expected = rule.evaluation_boxes({"boxes": boxes}, geometry)
        torch.testing.assert_close(model.boxes[-1][0], expected, rtol=0, atol=1e-5)


def test_a_processor_that_crops_sees_the_whole_frame():
    model = Echo()
    processor = echo_processor(do_center_crop=True, crop_size={"height": 48, "width": 48}, num_crops=3, num_clips=5)
    with VideoReader(frames_of(30), fps=30) as reader:
        ActionDetector(model, processor).detect(reader, parse_boxes([{"time": 0.5, "boxes": [LEFT]}]))
    assert model.shapes == [(1, 4, 3, 48, 64)]


def test_the_answer_of_a_batch_is_that_of_each_alone(tmp_path):
    video = write_video(tmp_path / "clip.mp4", 90)
    answers = [
        ActionDetector(Echo(), echo_processor(), TwoPeople(), 0.3, batch_size).detect(video)
        for batch_size in (1, 3, 50)
    ]
    for other in answers[1:]:
        assert torch.allclose(answers[0].scores, other.scores, atol=1e-6)
        assert torch.equal(answers[0].key_frames, other.key_frames)


def test_each_frame_is_decoded_once(tmp_path):
    with VideoReader(write_video(tmp_path / "clip.mp4", 90)) as reader:
        _ = reader.height
        before = reader.frames_decoded
        ActionDetector(Echo(), echo_processor(), TwoPeople(), 0.1).detect(reader)
        assert reader.frames_decoded - before <= 90


def test_a_short_video_repeats_its_edges():
    frames, model = frames_of(3), Echo()
    with VideoReader(frames, fps=30) as reader:
        found = ActionDetector(model, echo_processor(), TwoPeople()).detect(reader)
    assert found.times.tolist() == [0] and found.key_frames.tolist() == [0, 0]
    np.testing.assert_allclose(
        found.scores[0], frames[[0, 0, 0, 2]][:, :25, :17].mean(axis=(0, 1, 2)) / 255, atol=1e-4
    )


def test_given_boxes_keep_their_places():
    given = parse_boxes([
        {"time": 1, "boxes": [[1.1, 0, 1.2, 1], RIGHT, [0.5, 0.5, 0.5, 0.9], LEFT], "scores": [1, 0.5, 1, 1]},
        {"time": 0.2, "boxes": []},
    ])  # fmt: skip
    frames = frames_of(60)
    with VideoReader(frames, fps=30) as reader:
        answer = ActionDetector(Echo(), echo_processor()).detect(reader, given).to_dict(top_k=1)
    first, second = answer["key_frames"]
    assert (first, second["time"]) == ({"time": 0.2, "people": []}, 1.0)
    right, left = second["people"]
    assert (right["box_index"], left["box_index"]) == (1, 3) and (right["track"], left["track"]) == (1, 2)
    assert right["box"] == RIGHT and right["box_pixels"] == [32, 12, 64, 48] and right["score"] == 0.5
    (action,) = left["actions"]
    expected = means(frames, 30, slice(0, 25), slice(0, 17))
    assert action == {
        "label": ["red", "green", "blue"][expected.argmax()],
        "score": pytest.approx(expected.max(), abs=1e-4),
    }
    assert (answer["width"], answer["height"], answer["duration"]) == (64, 48, 2.0)


def test_scores_below_a_threshold_are_not_named():
    with VideoReader(frames_of(30), fps=30) as reader:
        found = ActionDetector(Echo(), echo_processor(), TwoPeople()).detect(reader)
    best = found.people_at(0)[0].actions
    assert len(best) == 3 and [a.score for a in best] == sorted((a.score for a in best), reverse=True)
    assert found.people_at(0, min_score=best[1].score)[0].actions == best[:2]
    assert found.people_at(0, min_score=1)[0].actions == []


def test_damage_leaves_a_gap(tmp_path):
    video = write_holed(tmp_path / "holed.mkv", 90, 40, 50)  # key frames 30 and 60 see 27 to 33 and 57 to 63
    detector = ActionDetector(Echo(), echo_processor(), TwoPeople(), 0.5)
    found = detector.detect(video)
    assert found.is_whole.tolist() == [True, True, True, False, True, True]
    assert found.gaps == [[pytest.approx(1.25), pytest.approx(1.75)]] and 3 not in found.key_frames
    assert [one["time"] for one in found.to_dict()["key_frames"]] == pytest.approx([0, 0.5, 1, 2, 2.5])
    assert len(detector.detector.seen) == 5
    given = parse_boxes([{"time": 1.5, "boxes": [LEFT]}, {"time": 2, "boxes": [LEFT, RIGHT]}])
    found = detector.detect(video, given)
    assert found.key_frames.tolist() == [1, 1] and found.gaps == [[0, pytest.approx(1.75)]]


def test_the_same_call_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    video, model = write_holed(tmp_path / "holed.mkv", 90, 40, 50), Echo()
    whole = ActionDetector(model, echo_processor(), TwoPeople(), 0.3, 2).detect(video)

    def stop(done, total):
        assert total == 10
        if done == 6:
            raise KeyboardInterrupt

    first, second = TwoPeople(), TwoPeople()
    with pytest.raises(KeyboardInterrupt):
        ActionDetector(model, echo_processor(), first, 0.3, 2).detect(video, None, tmp_path / "parts", stop)
    second.seen = list(first.seen)
    again = ActionDetector(model, echo_processor(), second, 0.3, 2).detect(video, None, tmp_path / "parts")
    assert 0 < len(first.seen) < len(second.seen) == 9
    assert again.to_dict() == whole.to_dict() and len(whole.people.boxes) > 8


def test_nobody_is_an_answer():
    nobody = TwoPeople()
    none = People(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    nobody.detect = lambda frames: [none] * len(frames)
    model = Echo()
    with VideoReader(frames_of(60), fps=30) as reader:
        answer = ActionDetector(model, echo_processor(), nobody).detect(reader).to_dict()
        assert ActionDetector(model, echo_processor(), nobody).detect(reader, []).to_dict()["key_frames"] == []
    assert answer["key_frames"] == [{"time": 0.0, "people": []}, {"time": 1.0, "people": []}] and model.shapes == []


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(VideoDecodeError, match="its frames have no times"):
        ActionDetector(Echo(), echo_processor(), TwoPeople()).detect(frames_of(30))
    with VideoReader(frames_of(30), fps=30) as reader:
        late = parse_boxes([{"time": 1.0, "boxes": [LEFT]}])
        with pytest.raises(VideoDecodeError, match="it ends at 1 s, and boxes are given for 1 s"):
            ActionDetector(Echo(), echo_processor()).detect(reader, late)
        with pytest.raises(ValueError, match="Give boxes of people, or a detector"):
            ActionDetector(Echo(), echo_processor()).detect(reader)
    for options in ({"every": 0}, {"every": float("nan")}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ActionDetector(Echo(), echo_processor(), **options)
