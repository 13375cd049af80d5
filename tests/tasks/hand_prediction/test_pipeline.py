"""The pipeline takes raw videos, and answers in pixels of them."""

import numpy as np
import pytest
import torch
from tasks.hand_prediction.drawn import FRAMES, HEIGHT, PROCESSOR, RATE, WIDTH, way, write_predictor, write_square
from transformers import pipeline

from internvideo_hf import VideoHandPredictionPipeline, VideoReader
from internvideo_hf.video.errors import VideoDecodeError


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    write_square(path, way(3))
    return str(path)


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    return pipeline("video-hand-prediction", model=str(write_predictor(tmp_path_factory.mktemp("model"))))


def test_both_hands_are_predicted_in_pixels_of_the_video(predict, video):
    assert isinstance(predict, VideoHandPredictionPipeline)
    answer = predict(video)
    assert (answer["second"], answer["width"], answer["height"]) == (FRAMES / RATE, WIDTH, HEIGHT)
    moments = [entry["moment"] for entry in answer["hands"]["right"]]
    assert moments == ["pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame"]
    # The last numbers of the model are 19 and 20, of a view of 42 x 32 pixels that begins at column 5.
    assert answer["hands"]["right"][4]["point"] == pytest.approx([(19 + 5) * 64 / 42, 20 * 48 / 32], abs=1e-4)
    assert list(answer) == ["second", "width", "height", "hands"] and list(answer["hands"]) == ["left", "right"]


def test_videos_of_every_kind_and_moments_are_taken(predict, video):
    frames = VideoReader(np.zeros((9, HEIGHT, WIDTH, 3), np.uint8), fps=4)
    first, second = predict([video, frames], second=1.5)
    assert first["second"] == second["second"] == 1.5
    assert predict([video, video], batch_size=2) == [predict(video)] * 2
    with pytest.raises(VideoDecodeError, match="ends before 99 s"):
        predict(video, second=99)
    with pytest.raises(VideoDecodeError, match="no frame rate"):
        predict(np.zeros((9, HEIGHT, WIDTH, 3), np.uint8))


def test_what_comes_after_the_moment_is_not_looked_at(video, tmp_path):
    model = write_predictor(tmp_path / "model")
    predict = pipeline("video-hand-prediction", model=str(model))
    torch.manual_seed(0)
    torch.nn.init.normal_(predict.model.classifier.weight)
    write_square(tmp_path / "same.mp4", np.concatenate([way(3)[:8], way(5)[8:]]))
    one, other = (predict(name, second=1.0)["hands"] for name in (video, str(tmp_path / "same.mp4")))
    assert one == other != predict(video, second=1.25)["hands"]


def test_options_that_do_not_fit_are_refused(predict, video):
    with pytest.raises(TypeError, match="Unknown option seconds. Did you mean second"):
        predict(video, seconds=1)
    for second in (0, -1, float("nan"), "2", True):
        with pytest.raises(ValueError, match="expected seconds above 0"):
            predict(video, second=second)


def test_a_released_model_answers_in_pixels_of_the_annotated_video(video, tmp_path):
    folder = write_predictor(tmp_path / "model", points_of_video=True)
    predict = pipeline("video-hand-prediction", model=str(folder))
    assert predict(video)["hands"]["left"][0]["point"] == pytest.approx([1, 2], abs=1e-4)
    predict.save_pretrained(tmp_path / "saved")
    again = pipeline("video-hand-prediction", model=str(tmp_path / "saved"))
    assert again(video) == predict(video) and again.reader.processor.sampler_kwargs == PROCESSOR["sampler_kwargs"]


def test_other_models_are_refused(tmp_path):
    folder = write_predictor(tmp_path / "model", tuple(f"point {number}" for number in range(4)))
    with pytest.raises(ValueError, match="these are not Ego4D's hands"):
        pipeline("video-hand-prediction", model=str(folder))
