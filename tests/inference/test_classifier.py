"""Classifiers with their processors: probabilities by hand, unreadable videos, interrupted runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import move_from_start
from video.clips import write_video

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForVideoClassification, InternVideoVideoProcessor
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.runner import RunSettings

CLASSES = ["runs", "jumps", "sits"]
HERE = RunSettings(workers=0, quiet=True, max_damaged=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("classifier")
    config = InternVideoMAEConfig(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=16,
        image_size=32,
        patch_size=16,
        num_frames=4,
        id2label=dict(enumerate(CLASSES)),
    )
    torch.manual_seed(0)
    move_from_start(InternVideoMAEForVideoClassification(config), seed=0).save_pretrained(place)
    pixels = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 4}
    InternVideoVideoProcessor(**pixels, sampler="videomae_dense", num_clips=2).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("videos")
    return [{"video": str(write_video(root / f"clip{n}.mp4", num_frames=20 + 15 * n))} for n in range(3)]


@torch.no_grad()
def by_hand(folder: Path, video: str, clips: int, crops: int) -> np.ndarray:
    processor = InternVideoVideoProcessor.from_pretrained(folder)
    pixels = processor([video], num_clips=clips, num_crops=crops, return_tensors="pt")["pixel_values_videos"]
    logits = InternVideoMAEForVideoClassification.from_pretrained(folder).eval()(pixels).logits.double().numpy()
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)


@pytest.mark.parametrize(("given", "views"), [((None, None), (2, 1)), ((1, 3), (1, 3))])
def test_views_are_those_given_or_configured(folder, rows, given, views):
    classifier = Classifier.load(folder, *given, device="cpu")
    assert (classifier.num_clips, classifier.num_crops) == views and classifier.classes == CLASSES
    expected = np.stack([by_hand(folder, row["video"], *views) for row in rows])
    for batch_size in (1, 4):  # less and more than the views of a video
        found, causes = classifier.classify(rows, RunSettings(batch_size, workers=0, quiet=True))
        assert causes == {} and found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_unreadable_video_has_a_cause_and_no_probabilities(folder, rows, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    noise = str(tmp_path / "noise.mp4")
    classifier = Classifier.load(folder, device="cpu")
    found, causes = classifier.classify([rows[0], {"video": noise}, rows[2]], HERE)
    assert list(causes) == [noise]
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(found[2], by_hand(folder, rows[2]["video"], 2, 1), atol=1e-6)


def test_an_interrupted_run_continues_with_its_causes(folder, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    listed, settings = [{"video": str(tmp_path / "noise.mp4")}, *rows], RunSettings(1, 0, 0.5, quiet=True)
    classifier, probabilities, calls = Classifier.load(folder, device="cpu"), Classifier.probabilities, []
    expected, _ = classifier.classify(listed, settings)

    def stop_at_the_second(self, views, batch_size):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return probabilities(self, views, batch_size)

    monkeypatch.setattr(Classifier, "probabilities", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        classifier.classify(listed, settings, tmp_path / "parts")
    found, causes = classifier.classify(listed, settings, tmp_path / "parts")
    assert len(calls) == 4, "the first of three readable videos had been kept"
    np.testing.assert_array_equal(found, expected)
    assert list(causes) == [listed[0]["video"]]


def test_damaged_weights_are_named(folder, rows):
    classifier = Classifier.load(folder, device="cpu")
    classifier.model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        classifier.classify(rows[:1], HERE)
