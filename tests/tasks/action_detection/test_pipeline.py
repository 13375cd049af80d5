"""`pipeline("video-action-detection")`: equal to detector, model and geometry called by hand."""

import json

import numpy as np
import pytest
import torch
from tasks.action_detection.small import write_detector, write_model
from tasks.temporal_localization.heads import write_encoder, write_holed
from transformers import pipeline
from video.clips import moving_picture, write_video

from internvideo_hf import (
    InternVideoMAEForVideoActionDetection,
    InternVideoVideoProcessor,
    VideoActionDetectionPipeline,
    VideoReader,
)
from internvideo_hf.tasks import boxes
from internvideo_hf.tasks.action_detection.detectors import PersonDetector

TASK = "video-action-detection"
BOX = [0.25, 0.0, 0.75, 0.5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    write_detector(folder / "detector")
    write_model(folder / "model")
    write_video(folder / "clip.mp4", 75)
    return folder


@pytest.fixture(scope="module")
def detect(folder) -> VideoActionDetectionPipeline:
    return pipeline(
        TASK, model=folder / "model", detector=folder / "detector", person_threshold=0.3, every=0.5, device="cpu"
    )


def test_answers_are_those_of_the_parts(detect, folder):
    answer = detect(str(folder / "clip.mp4"))
    assert [one["time"] for one in answer["key_frames"]] == [0, 0.5, 1, 1.5, 2]
    model = InternVideoMAEForVideoActionDetection.from_pretrained(folder / "model").eval()
    processor = InternVideoVideoProcessor.from_pretrained(folder / "model")
    finder = PersonDetector(folder / "detector", threshold=0.3, device="cpu")
    with VideoReader(folder / "clip.mp4") as reader:
        frames = reader.read([26, 28, 30, 32])  # of 8 frames around 30, 4 of them before it
        (people,) = finder.detect(list(reader.read([30])))
    pixels = processor([frames], do_sample_frames=False, do_center_crop=False, return_tensors="pt")
    pixels = torch.nn.functional.pad(pixels["pixel_values_videos"], (0, 6))  # 32 x 42 pixels
    given = boxes.resize(boxes.from_fractions(people.boxes, (48, 64)), (48, 64), (32, 42))
    mask = torch.arange(48).expand(1, 32, 48) < 42
    with torch.no_grad():
        logits = model(pixels, boxes.extend(given, (32, 42))[None], pixel_mask=mask).logits[0]
    found = answer["key_frames"][2]["people"]
    assert len(found) == len(people.boxes) > 2
    for person, own, score, row in zip(found, people.boxes, people.scores, logits, strict=True):
        assert person["box"] == own.tolist() and person["score"] == float(score)
        assert person["box_pixels"] == pytest.approx((own * torch.tensor([64, 48, 64, 48])).tolist(), abs=1e-4)
        expected = (row.sigmoid() * score).sort(descending=True)
        assert [one["score"] for one in person["actions"]] == pytest.approx(expected.values.tolist(), abs=1e-5)
        labels = [model.config.id2label[number] for number in expected.indices.tolist()]
        assert [one["label"] for one in person["actions"]] == labels


def test_options_choose_actions(detect, folder):
    video = str(folder / "clip.mp4")
    whole = detect(video)
    first, second = detect([video, folder / "clip.mp4"], top_k=2)
    assert first == second
    for one, few in zip(whole["key_frames"], first["key_frames"], strict=True):
        assert [p["actions"][:2] for p in one["people"]] == [p["actions"] for p in few["people"]]
    least = detect(video, threshold=0.4)
    scores = [action["score"] for one in least["key_frames"] for p in one["people"] for action in p["actions"]]
    assert scores and min(scores) >= 0.4
    assert len(least["key_frames"][0]["people"]) == len(whole["key_frames"][0]["people"])
    assert json.loads(json.dumps(whole)) == whole


def test_boxes_take_the_place_of_a_detector(folder, tmp_path):
    rows = [{"time": 1.0, "boxes": [BOX, [0, 0, 0.5, 0.5]], "scores": [1, 0.5]}, {"time": 0.4, "boxes": [BOX]}]
    detect = pipeline(TASK, model=folder / "model", device="cpu")
    answer = detect(str(folder / "clip.mp4"), boxes=rows)
    assert [one["time"] for one in answer["key_frames"]] == [0.4, 1.0]
    assert [person["track"] for one in answer["key_frames"] for person in one["people"]] == [1, 1, 2]
    assert answer["key_frames"][1]["people"][0]["box"] == BOX
    (tmp_path / "boxes.json").write_text(json.dumps({"clip": rows}))
    held = pipeline(TASK, model=folder / "model", boxes=tmp_path / "boxes.json", device="cpu")
    assert held(folder / "clip.mp4") == answer
    moved = held(folder / "clip.mp4", boxes=[{"time": 1.0, "boxes": [BOX]}])
    assert len(moved["key_frames"]) == 1 and moved["key_frames"][0]["people"][0]["box"] == BOX
    with pytest.raises(ValueError, match="has the boxes of one video, and there are 2"):
        detect([str(folder / "clip.mp4")] * 2, boxes=rows)
    with pytest.raises(ValueError, match="no boxes of other"):
        held("other.mp4")
    with pytest.raises(ValueError, match=r"Give boxes of people \(boxes=...\), or a detector"):
        detect(str(folder / "clip.mp4"))
    with pytest.raises(ValueError, match="both a detector and boxes"):
        pipeline(TASK, model=folder / "model", detector=folder / "detector", boxes=rows, device="cpu")


def test_answers_do_not_depend_on_the_batch(folder):
    options = {"detector": folder / "detector", "person_threshold": 0.3, "every": 0.2, "device": "cpu"}
    one, many = (pipeline(TASK, model=folder / "model", batch_size=n, **options)(folder / "clip.mp4") for n in (1, 5))
    assert len(one["key_frames"]) == 13
    for single, together in zip(one["key_frames"], many["key_frames"], strict=True):
        for a, b in zip(single["people"], together["people"], strict=True):
            assert a["track"] == b["track"]
            np.testing.assert_allclose(a["box"], b["box"], atol=1e-5)
            scores = ([action["score"] for action in person["actions"]] for person in (a, b))
            np.testing.assert_allclose(*scores, atol=1e-5)


def test_damage_is_a_gap(detect, tmp_path):
    answer = detect(str(write_holed(tmp_path / "holed.mkv", 75, 29, 31)))
    assert answer["gaps"] == [[pytest.approx(0.75), pytest.approx(1.25)]] and len(answer["key_frames"]) == 4


def test_frames_in_memory_need_their_rate(detect):
    frames = moving_picture(30)
    with VideoReader(frames, fps=30) as reader:
        assert len(detect(reader)["key_frames"]) == 2
    with pytest.raises(ValueError, match="its frames have no times"):
        detect(frames)


def test_it_is_saved_with_its_processor(detect, folder, tmp_path):
    detect.save_pretrained(tmp_path / "saved")
    again = pipeline(TASK, model=tmp_path / "saved", boxes=[{"time": 1.0, "boxes": [BOX]}], device="cpu")
    before = pipeline(TASK, model=folder / "model", boxes=[{"time": 1.0, "boxes": [BOX]}], device="cpu")
    assert again(folder / "clip.mp4") == before(folder / "clip.mp4")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"top_k": 0}, ValueError, "top_k=0"),
        ({"threshold": 2}, ValueError, "threshold=2"),
        ({"treshold": 0.5}, TypeError, "Unknown option treshold. Did you mean threshold?"),
        ({"boxes": [{"time": 1.0, "boxes": [[1, 2, 300, 400]]}]}, ValueError, "divide pixels"),
    ],
)
def test_a_mistaken_option_is_refused(detect, folder, options, error, words):
    with pytest.raises(error, match=words):
        detect(str(folder / "clip.mp4"), **options)


def test_a_classifier_is_no_action_detector(tmp_path, folder):
    write_encoder(tmp_path / "classifier")
    with pytest.raises(ValueError, match="ForVideoActionDetection|use_mean_pooling"):
        pipeline(TASK, model=tmp_path / "classifier", detector=folder / "detector", device="cpu")
