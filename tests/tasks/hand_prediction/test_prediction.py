"""Predictions from raw videos: what is observed, what is read, where the points are."""

import numpy as np
import pytest
import torch
from tasks.hand_prediction.drawn import FRAMES, HEIGHT, PROCESSOR, RATE, WIDTH, way, write_predictor, write_square

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForHandPrediction, InternVideoVideoProcessor
from internvideo_hf.inference.merging import NotFiniteError
from internvideo_hf.models.common.hand_prediction import HAND_LABELS
from internvideo_hf.tasks.hand_prediction.prediction import (
    ClipReader,
    answer_of,
    columns_of,
    hands_of,
    labels_of_hands,
    points_in_video,
    predict_points,
)
from internvideo_hf.video.errors import VideoDecodeError

LEFT = labels_of_hands(["left"])


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    write_square(path, way(3))
    return str(path)


def reader(num_clips: int = 1, points_of_video: bool = False, **options) -> ClipReader:
    return ClipReader(InternVideoVideoProcessor(**PROCESSOR | options), num_clips, points_of_video)


def config(labels=HAND_LABELS, **options) -> InternVideoMAEConfig:
    return InternVideoMAEConfig(id2label=dict(enumerate(labels)), **options)


def test_labels_name_the_numbers():
    assert labels_of_hands(["left", "right"]) == list(HAND_LABELS)
    assert LEFT[:4] == ["pre_45 left x", "pre_45 left y", "pre_30 left x", "pre_30 left y"] and len(LEFT) == 10
    assert columns_of(config(LEFT)) == [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]
    assert columns_of(InternVideoMAEConfig(num_labels=20)) == list(range(20))
    assert hands_of(columns_of(config(LEFT))) == ["left"] and hands_of(range(20)) == ["left", "right"]
    with pytest.raises(ValueError, match="one of which is LABEL_0"):
        columns_of(InternVideoMAEConfig(num_labels=4))


@pytest.mark.parametrize(
    ("row", "frames", "second"),
    [
        ({}, [9, 11, 13, 15], FRAMES / RATE),  # of the last second, 9 to 16
        ({"frame": 8}, [0, 2, 4, 6], 1.0),
        ({"frame": 4}, [0, 1, 2, 3], 0.5),  # shorter than a second
        ({"second": 1.5}, [4, 6, 8, 10], 1.5),
        ({"second": 1.51}, [5, 7, 9, 11], 1.51),  # the frame at 1.5 s is seen, too
    ],
)
def test_the_last_second_before_the_moment_is_observed(video, row, frames, second):
    views = reader(size={"height": HEIGHT, "width": WIDTH}, do_center_crop=False)({"video": video, **row})
    assert views["about"].tolist() == pytest.approx([WIDTH, HEIGHT, second])
    bright = views["pixel_values_videos"][0, :, 0] > 0
    places = [[pixels.nonzero().double().mean(0).flip(0).add(0.5)] for pixels in bright]
    assert torch.cat([place for (place,) in places]).reshape(-1, 2).tolist() == pytest.approx(way(3)[frames], abs=0.1)


def test_decoders_send_bytes_and_the_inputs_are_the_same(video):
    read = reader(num_clips=2)
    views, raw = read({"video": video}), read({"video": video}, raw=True)
    called = read.processor(video, num_clips=2, num_crops=1, return_tensors="pt")["pixel_values_videos"]
    assert raw["pixel_values_videos"].pixels.dtype == np.uint8 and views["pixel_values_videos"].shape == called.shape
    assert torch.equal(raw.pop("pixel_values_videos").normalized(), views.pop("pixel_values_videos"))
    assert raw.keys() == views.keys() and all(torch.equal(raw[name], views[name]) for name in raw)


def test_a_moment_that_shows_nothing_and_small_copies_are_refused(video):
    for row, words in (
        ({"frame": 0}, "no frame is before"),
        ({"frame": 99}, f"it has {FRAMES} frames, expected 99"),
        ({"second": 9.0}, "it ends before 9 s"),
        ({"points": [[0, 0], [500, 20]]}, f"{WIDTH} x {HEIGHT} pixels, and hands are annotated up to 500, 20"),
    ):
        with pytest.raises(VideoDecodeError, match=words):
            reader()({"video": "named", "file": video, **row})
    reader(points_of_video=True)({"video": video, "points": [[500, 20]]})
    with pytest.raises(VideoDecodeError, match="no frame rate"):
        reader()({"video": "frames", "file": np.zeros((9, 48, 64, 3), np.uint8)})


def test_points_are_scaled_back_to_the_video(video, tmp_path):
    model = InternVideoMAEForHandPrediction.from_pretrained(write_predictor(tmp_path / "model"))
    views = {name: value[None] for name, value in reader(num_clips=2)({"video": video}).items()}
    assert views["pixel_values_videos"].shape == (1, 2, 4, 3, 32, 32)
    found = predict_points(model, views, batch_size=1)[0].reshape(5, 2, 2)
    # 64 x 48 to a short side of 32: 42 x 32, of which the columns from 5 on are seen
    numbers = np.arange(1, 21).reshape(5, 2, 2)
    assert found[..., 0] == pytest.approx((numbers[..., 0] + 5) * 64 / 42, abs=1e-4)
    assert found[..., 1] == pytest.approx(numbers[..., 1] * 48 / 32, abs=1e-4)
    of_video = {name: value[None] for name, value in reader(points_of_video=True)({"video": video}).items()}
    assert predict_points(model, of_video)[0] == pytest.approx(np.arange(1, 21), abs=1e-4)


def test_a_hand_that_the_model_does_not_know_is_no_answer():
    found = points_in_video(np.arange(10.0)[None], np.array([[2.0, 2.0, 0.0, 0.0]]), config(LEFT))
    assert found[0].tolist() == [0, 0.5, 0, 0, 1, 1.5, 0, 0, 2, 2.5, 0, 0, 3, 3.5, 0, 0, 4, 4.5, 0, 0]
    answer = answer_of(found[0], config(LEFT))
    assert list(answer) == ["left"] and answer["left"][4] == {"moment": "contact_frame", "point": [4, 4.5]}


def test_damaged_weights_are_named(video, tmp_path):
    model = InternVideoMAEForHandPrediction.from_pretrained(write_predictor(tmp_path / "model"))
    torch.nn.init.constant_(model.classifier.bias, torch.nan)
    with pytest.raises(NotFiniteError, match="A predicted point"):
        predict_points(model, {name: value[None] for name, value in reader()({"video": video}).items()})
