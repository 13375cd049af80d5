"""`pipeline("video-short-term-anticipation")`: equal to detector, model and geometry called by hand."""

import json

import pytest
import torch
from tasks.action_detection.drawn import write_frames
from tasks.action_detection.small import write_detector
from tasks.short_term_anticipation.drawn import CONTACT, FRAMES, HEIGHT, RATE, VERBS, WIDTH, draw, write_model
from transformers import pipeline

from internvideo_hf import (
    InternVideoMAEForShortTermAnticipation,
    VideoDecodeError,
    VideoReader,
    VideoShortTermAnticipationPipeline,
)
from internvideo_hf.inference.objects import ObjectDetector

TASK = "video-short-term-anticipation"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    write_detector(folder / "detector")
    write_model(folder / "model")
    write_frames(folder / "clip.mp4", [draw(0, [(2, 2), (9, 36)], frame) for frame in range(FRAMES)])
    return folder


@pytest.fixture(scope="module")
def anticipate(folder) -> VideoShortTermAnticipationPipeline:
    return pipeline(TASK, model=folder / "model", detector=folder / "detector", device="cpu")


def test_answers_are_those_of_the_parts(anticipate, folder):
    found = anticipate(str(folder / "clip.mp4"), second=0.85, threshold=0.0)
    finder = ObjectDetector(folder / "detector", "cpu")
    with VideoReader(folder / "clip.mp4") as reader:
        frames = reader.read([2, 4, 6, 8])  # at 0.8 s
    (objects,) = finder.find([frames[-1]])
    edges = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes = objects.boxes * edges - torch.tensor([0, 0, 1, 1])
    boxes = torch.minimum(boxes.clamp(min=0), edges - 1)
    pixels = (torch.from_numpy(frames).movedim(-1, 1) / 255 - 0.45) / 0.225
    model = InternVideoMAEForShortTermAnticipation.from_pretrained(folder / "model").eval()
    with torch.no_grad():
        expected = model(pixels[None], boxes[None])
    assert len(found) == len(boxes) > 2 and found[0].keys() == {"box", "noun", "verb", "time_to_contact", "score"}
    for number, one in enumerate(found):
        assert one["box"] == pytest.approx(boxes[number].tolist(), abs=1e-4)
        assert one["score"] == pytest.approx(float(objects.scores[number]))
        assert one["noun"] == finder.model.config.id2label[int(objects.labels[number])]
        assert one["verb"] == [*VERBS, "no verb"][int(expected.logits[0, number].argmax())]
        assert one["time_to_contact"] == pytest.approx(float(expected.times[0, number]), abs=1e-5)
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert json.loads(json.dumps(found)) == found


def test_options_choose_the_moment_and_the_objects(anticipate, folder):
    video = str(folder / "clip.mp4")
    end, other = anticipate([video, folder / "clip.mp4"], threshold=0.0)
    assert end == other == anticipate(video, second=FRAMES / RATE, threshold=0.0)
    assert end != anticipate(video, second=CONTACT / RATE / 2, threshold=0.0)
    assert anticipate(video, threshold=0.0, top_k=2) == end[:2]
    scores = [one["score"] for one in end]
    assert anticipate(video, threshold=scores[1]) == [one for one in end if one["score"] > scores[1]]
    assert anticipate(video, threshold=1.0) == []


def test_a_frame_at_the_beginning_repeats_the_first(anticipate, folder):
    assert len(anticipate(str(folder / "clip.mp4"), second=0, threshold=0.0)) > 2


def test_the_pipeline_is_saved_with_its_processor(anticipate, folder, tmp_path):
    anticipate.save_pretrained(tmp_path / "saved")
    again = pipeline(TASK, model=tmp_path / "saved", detector=anticipate.detector, device="cpu")
    video = str(folder / "clip.mp4")
    ours, theirs = again(video, threshold=0.0), anticipate(video, threshold=0.0)
    assert [one["time_to_contact"] for one in ours] == pytest.approx([one["time_to_contact"] for one in theirs])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"second": 9}, VideoDecodeError, "it ends at 2 s, and the moment is at 9 s"),
        ({"second": -1}, ValueError, "second=-1, expected seconds from 0 on"),
        ({"threshold": 2}, ValueError, "threshold=2, expected a score between 0 and 1"),
        ({"top_k": 0}, ValueError, "top_k=0 must be at least 1"),
        ({"seconds": 1}, TypeError, "Unknown option seconds. Did you mean second"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, words, anticipate, folder):
    with pytest.raises(error, match=words):
        anticipate(str(folder / "clip.mp4"), **options)


def test_other_models_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is not a detector of objects"):
        pipeline(TASK, model=folder / "model", detector=folder / "model", device="cpu")
    config = json.loads((folder / "model/config.json").read_text())
    for file in (folder / "model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["InternVideoMAEForPreTraining"]}))
    with pytest.raises(ValueError, match="expected a model that ends in ForShortTermAnticipation"):
        pipeline(TASK, model=tmp_path, detector=folder / "detector", device="cpu")
