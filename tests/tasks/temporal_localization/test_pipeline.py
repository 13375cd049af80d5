"""`pipeline("temporal-action-localization")`: equal to extractor, head and decoding."""

import json

import numpy as np
import pytest
from tasks.temporal_localization.heads import write_encoder, write_head
from transformers import pipeline
from video.clips import moving_picture, write_video

from internvideo_hf import FeatureExtractor, TemporalActionLocalizationPipeline, VideoReader
from internvideo_hf.inference.untrimmed import extract_features
from internvideo_hf.tasks.temporal_localization.localization import Localizer

TASK = "temporal-action-localization"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    write_head(folder / "head", write_encoder(folder / "encoder"))
    write_video(folder / "clip.mp4", 40)
    return folder


@pytest.fixture(scope="module")
def localize(folder) -> TemporalActionLocalizationPipeline:
    return pipeline(TASK, model=folder / "head", feature_extractor=folder / "encoder", device="cpu")


def test_answers_are_those_of_the_parts(localize, folder):
    extractor = FeatureExtractor(folder / "encoder", 4, 2, device="cpu")
    found = Localizer(localize.model).localize(extract_features(extractor, folder / "clip.mp4"))
    answer = localize(str(folder / "clip.mp4"))
    assert answer == found.to_dict() and len(answer["segments"]) > 5
    few = localize([str(folder / "clip.mp4")] * 2, top_k=2)
    assert [one["segments"] for one in few] == [answer["segments"][:2]] * 2
    threshold = answer["segments"][3]["score"]
    assert localize(folder / "clip.mp4", threshold=threshold)["segments"] == answer["segments"][:4]


def test_the_encoder_is_the_one_that_the_head_names(localize, folder, tmp_path):
    default = pipeline(TASK, model=folder / "head", device="cpu")
    assert default(str(folder / "clip.mp4"), top_k=3) == localize(str(folder / "clip.mp4"), top_k=3)
    default.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["features"]["encoder"] == str(folder / "encoder")


def test_the_encoder_may_lie_in_the_folder_of_the_head(localize, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = write_head(tmp_path / "head", None, features={"window": 4, "stride": 2, "encoder": "trained"})
    with pytest.raises(ValueError, match="The encoder of .*head was trained, which is not there"):
        pipeline(TASK, model=head, device="cpu")
    write_encoder(head / "trained")
    inside = pipeline(TASK, model=head, device="cpu")
    assert inside(str(folder / "clip.mp4")) == localize(str(folder / "clip.mp4"))


def test_an_extractor_has_the_encoder_of_the_head_and_any_windows(folder, tmp_path):
    wide = FeatureExtractor(folder / "encoder", 4, 4, device="cpu")
    found = pipeline(TASK, model=folder / "head", feature_extractor=wide, device="cpu")
    assert found(str(folder / "clip.mp4"))["segments"]
    with pytest.raises(ValueError, match=r"was trained on features of .*makes others. .*feature_extractor"):
        pipeline(
            TASK,
            model=folder / "head",
            feature_extractor=FeatureExtractor("demo-classifier", 4, 2, device="cpu"),
            device="cpu",
        )


def test_a_classifier_names_the_segments(folder, tmp_path):
    head = write_head(tmp_path / "head", folder / "encoder", id2label={0: "LABEL_0"})
    named = pipeline(TASK, model=head, classifier=folder / "encoder", device="cpu")
    assert {one["label"] for one in named(str(folder / "clip.mp4"))["segments"]} < {"jump", "run", "wave"}


def test_frames_in_memory_need_their_rate(localize):
    frames = moving_picture(40)
    with VideoReader(frames, fps=30) as reader:
        assert localize(reader)["duration"] == pytest.approx(40 / 30)
    with pytest.raises(ValueError, match="its frames have no times"):
        localize(np.asarray(frames))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"top_k": 0}, ValueError, "top_k=0"),
        ({"threshold": 2}, ValueError, "threshold=2"),
        ({"threshold": "a"}, ValueError, "threshold='a'"),
        ({"treshold": 0.5}, TypeError, "Unknown option treshold. Did you mean threshold?"),
    ],
)
def test_a_mistaken_option_is_refused(localize, folder, options, error, words):
    with pytest.raises(error, match=words):
        localize(str(folder / "clip.mp4"), **options)
