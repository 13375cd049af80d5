"""`pipeline("multi-view-video-classification")`, and transformers' own pipeline with our models."""

import logging as python_logging

import numpy as np
import pytest
import torch
from parity.score_merging import View, merge_views
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from internvideo_hf import MultiViewVideoClassificationPipeline, VideoDecodeError, VideoReader
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.observer import scorer_for
from internvideo_hf.inference.open_set.scorer import OpenSetScorer


@pytest.fixture(scope="module")
def classify(mae_folder) -> MultiViewVideoClassificationPipeline:
    return pipeline("multi-view-video-classification", model=mae_folder, device="cpu", num_clips=2, num_crops=3)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (70, 40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("merge", ["prob", "score"])
def test_views_are_merged_as_the_evaluation_merges_them(classify, noise, mae_folder, merge):
    model = AutoModelForVideoClassification.from_pretrained(mae_folder).eval()
    views = AutoVideoProcessor.from_pretrained(mae_folder)(noise, num_clips=2, num_crops=3, return_tensors="pt")
    with torch.no_grad():
        logits = model(views["pixel_values_videos"]).logits.double().numpy()
    assert len(logits) == 6
    members = [View("v", index // 3, index % 3, 0, row) for index, row in enumerate(logits)]
    merged = merge_views(members, method=merge).scores[0]
    if merge == "score":
        merged = np.exp(merged) / np.exp(merged).sum()
    for answer in classify(noise, top_k=400, merge=merge):
        assert answer["score"] == pytest.approx(merged[model.config.label2id[answer["label"]]], rel=1e-6)


@pytest.mark.parametrize("merge", ["prob", "score"])
def test_labels_of_a_multi_label_model_are_scored_each_for_itself(classify, noise, monkeypatch, merge):
    monkeypatch.setattr(classify.model.config, "problem_type", "multi_label_classification")
    options = {"num_clips": 2, "num_crops": 1}
    found = {entry["label"]: entry["score"] for entry in classify(noise, merge=merge, **options)}
    pixels = classify.video_processor(noise, return_tensors="pt", **options)["pixel_values_videos"]
    with torch.no_grad():
        logits = classify.model(pixels.flatten(0, -5)).logits.double()
    expected = logits.sigmoid().mean(dim=0) if merge == "prob" else logits.mean(dim=0).sigmoid()
    for number, label in classify.model.config.id2label.items():
        assert found.get(label, expected[number].item()) == pytest.approx(expected[number].item(), abs=1e-6)


def test_the_best_labels_come_first(classify, noise):
    answers = classify(noise)
    assert len(answers) == 5
    assert [answer["score"] for answer in answers] == sorted((answer["score"] for answer in answers), reverse=True)


def test_many_videos_equal_one_by_one_at_any_batch_size(classify, noise):
    videos = [noise, noise[:30], torch.from_numpy(noise[10:])]
    alone = [classify(video) for video in videos]
    for batch_size in (1, 2):
        for one, many in zip(alone, classify(videos, batch_size=batch_size), strict=True):
            assert [answer["label"] for answer in one] == [answer["label"] for answer in many]


def test_all_views_come_from_one_decode(classify, bikes, monkeypatch):
    reads = []
    read = VideoReader.read
    monkeypatch.setattr(VideoReader, "read", lambda self, indices: reads.append(len(indices)) or read(self, indices))
    classify(bikes, num_clips=5, num_crops=3)
    assert reads == [5 * 16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": "vote"}, "prob"),
        ({"function_to_apply": "relu"}, "softmax, sigmoid, none"),
        ({"top_k": 0}, "top_k"),
        ({"num_clips": 0}, "num_clips"),
    ],
)
def test_a_meaningless_option_is_refused(classify, noise, options, message):
    with pytest.raises(ValueError, match=message):
        classify(noise, **options)


def test_a_damaged_video_is_named(classify, tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(b"")
    with pytest.raises(VideoDecodeError, match="damaged.mp4"):
        classify(tmp_path / "damaged.mp4")


def test_a_model_without_classes_is_refused(mae_folder):
    with pytest.raises(ValueError, match="not a classifier"):
        MultiViewVideoClassificationPipeline(
            model=AutoModel.from_pretrained(mae_folder), video_processor=AutoVideoProcessor.from_pretrained(mae_folder)
        )


def test_the_pipeline_of_transformers_works_on_a_path(mae_folder, bikes, caplog):
    with caplog.at_level(python_logging.ERROR):
        stock = pipeline("video-classification", model=mae_folder, device="cpu")
        answers = stock(str(bikes), top_k=3)
    assert not [record for record in caplog.records if "not supported" in record.message]
    ours = pipeline("multi-view-video-classification", model=mae_folder, device="cpu")(bikes, top_k=3)
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in ours]
    for theirs, mine in zip(answers, ours, strict=True):
        assert theirs["score"] == pytest.approx(mine["score"], rel=1e-4)


@pytest.fixture(scope="module")
def open_set(mae_folder, tmp_path_factory):
    """Return folders of scorers of the model, by method, fitted on drawn clips; energy in 2 x 1 views."""
    folder, draws = tmp_path_factory.mktemp("scorers"), np.random.default_rng(5)
    model = AutoModelForVideoClassification.from_pretrained(mae_folder).eval()
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    clips = [draws.integers(0, 256, (40, 40, 60, 3), dtype=np.uint8) for _ in range(4)]
    for method, options in (("energy", {}), ("mc_dropout", {"rate": 0.5, "passes": 3})):
        classifier = Classifier(str(mae_folder), model, processor, 2, 1)
        scorer, observer = scorer_for(classifier, method, accepted=0.5, **options)
        pixels = [processor(clip, num_clips=2, num_crops=1, return_tensors="pt") for clip in clips]
        views = {"pixel_values_videos": torch.stack([one["pixel_values_videos"].flatten(0, -5) for one in pixels])}
        seen = Observations(**observer.answers(views), labels=torch.arange(4))
        scorer.fit(seen, observer.subject).save(folder / method)
    return folder, clips, seen


@pytest.mark.parametrize("method", ["energy", "mc_dropout"])
def test_unknown_is_an_answer_in_the_views_of_the_scorer(mae_folder, open_set, noise, method):
    folder, clips, seen = open_set
    answer = pipeline(
        "multi-view-video-classification", model=mae_folder, device="cpu", open_set=folder / method, top_k=2
    )
    plain = pipeline("multi-view-video-classification", model=mae_folder, device="cpu", num_clips=2, num_crops=1)
    scorer = OpenSetScorer.load(folder / method)
    for batch_size in (1, 3):
        entries = []
        for clip, found in zip(clips, answer(clips, batch_size=batch_size), strict=True):
            (entry,) = [one for one in found if one["label"] == "unknown"]
            is_first = entry["uncertainty"] > scorer.threshold
            assert found.index(entry) == (0 if is_first else 2) and entry["threshold"] == scorer.threshold
            known = [one for one in found if one is not entry]
            expected = plain(clip, top_k=2)
            assert [one["label"] for one in known] == [one["label"] for one in expected]
            entries.append(entry)
        scores = np.array([entry["uncertainty"] for entry in entries])
        np.testing.assert_allclose(np.sort(scores), scorer.known_scores, rtol=1e-5)
        assert sorted(entry["score"] for entry in entries) == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.26)
        assert sum(entry["uncertainty"] > entry["threshold"] for entry in entries) <= 2


def test_a_scorer_may_be_named_in_a_call_and_must_be_the_models(classify, mae_folder, open_set, noise, tmp_path):
    folder = open_set[0]
    answers = classify(noise, open_set=folder / "energy", num_crops=1)
    assert answers[-1]["label"] == "unknown" or answers[0]["label"] == "unknown"
    assert all(answer["label"] != "unknown" for answer in classify(noise))
    with pytest.raises(ValueError, match=r"fitted on 2x1 views \(clips x crops\) of each video, and got 2x3"):
        classify(noise, open_set=folder / "energy")
    with pytest.raises(ValueError, match="holds no open-set scorer"):
        classify(noise, open_set=tmp_path)
    with pytest.raises(ValueError, match="fitted for 400 classes, and got 12"):
        pipeline("multi-view-video-classification", model=demo_path("demo-classifier"), open_set=folder / "energy")
    with pytest.raises(TypeError, match="Did you mean open_set"):
        classify(noise, openset=folder)
