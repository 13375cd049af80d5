"""Evaluation of dual encoders: several views follow the rule of the pipelines, texts are cut, failures stay out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.lists import videos_of
from transformers import AutoModel, AutoProcessor, pipeline

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.dual_encoder import VideoEmbeddings, check_dual_encoder_protocol, view_facts
from internvideo_hf.tasks.protocol import Run, Samples
from internvideo_hf.tasks.zero_shot import task as zero_shot

PIXELS = {"num_frames": 2, "sampler": "uniformerv2"}
HERE = RunSettings(workers=0, quiet=True, max_damaged=0.5)


def samples_of(videos: list[str], labels: list[int]) -> Samples:
    return Samples([{"video": video} for video in videos], np.arange(len(videos)), labels=np.array(labels))


@pytest.fixture(scope="module")
def protocol():
    loaded = load_protocol("zero_shot/k400", ["data.labels=ucf101", "processor.num_clips=2"])
    return replace(loaded, processor={**PIXELS, "num_clips": 2})


class TestSeveralViews:
    @pytest.mark.parametrize("section", ["", "processor."])
    def test_views_are_set_with_or_without_the_processors_name(self, small_folder, lists, section):
        changes = [f"processor.{name}={value}" for name, value in PIXELS.items()]
        views = [f"{section}num_clips=3", f"{section}num_crops=2"]
        protocol = load_protocol("retrieval/msrvtt", [*changes, *views])
        (video, *_) = videos_of(lists)
        found = VideoEmbeddings.compute(
            protocol, samples_of([video], [0]), Run(str(small_folder), "cpu", HERE), merge=False
        )
        assert found.vectors.shape[:2] == (1, 6) and found.facts["views"] == [3, 2]
        assert view_facts({"model": found.facts}) == {"views": "3 clips x 2 crops"}

    def test_zero_shot_scores_are_those_of_the_pipeline(self, small_folder, lists, protocol, monkeypatch):
        """Probabilities over the labels are averaged over views, not embeddings."""
        scores = []
        score = zero_shot.top_k_accuracies
        monkeypatch.setattr(
            zero_shot, "top_k_accuracies", lambda table, labels: scores.append(table) or score(table, labels)
        )
        videos, classes = videos_of(lists), load_labels("ucf101")
        outcome = zero_shot.TASK.evaluation.run(
            protocol,
            replace(samples_of(videos, [3, 1, 2, 0]), classes=classes),
            Run(str(small_folder), "cpu", HERE),
        )
        classify = pipeline(
            "zero-shot-video-classification",
            model=str(small_folder),
            device="cpu",
            candidate_labels=classes,
            prompts="kinetics",
            **PIXELS,
        )
        by_label = [{entry["label"]: entry["score"] for entry in answer} for answer in classify(videos, num_clips=2)]
        expected = np.array([[answer[label] for label in classes] for answer in by_label])
        np.testing.assert_allclose(scores[0], expected, atol=1e-6)
        one_view = [{entry["label"]: entry["score"] for entry in answer} for answer in classify(videos, num_clips=1)]
        assert abs(np.array([[answer[label] for label in classes] for answer in one_view]) - expected).max() > 1e-4
        ranks = [(row > row[label]).sum() for row, label in zip(expected, [3, 1, 2, 0], strict=True)]
        assert outcome.scores["top-5"] == 100 * np.mean([rank < 5 for rank in ranks])

    @torch.no_grad()
    def test_embeddings_are_merged_where_a_task_asks(self, small_folder, lists, protocol):
        run, samples = Run(str(small_folder), "cpu", HERE), samples_of(videos_of(lists), [0] * 4)
        separate = VideoEmbeddings.compute(protocol, samples, run, merge=False).vectors
        merged = VideoEmbeddings.compute(protocol, samples, run).vectors
        assert separate.shape == (4, 2, 64) and merged.shape == (4, 64)
        mean = separate.mean(dim=1)
        torch.testing.assert_close(merged, mean / mean.norm(dim=1, keepdim=True))


class TestTexts:
    @torch.no_grad()
    def test_they_are_cleaned_and_cut_at_the_protocols_length(self, small_folder, lists, protocol):
        short = replace(protocol, text_length=4)
        found = VideoEmbeddings.compute(
            short, samples_of(videos_of(lists)[:1], [0]), Run(str(small_folder), "cpu", HERE)
        )
        model, processor = AutoModel.from_pretrained(small_folder).eval(), AutoProcessor.from_pretrained(small_folder)
        inputs = processor(text=["a dog"], return_tensors="pt")
        expected = model.get_text_features(**inputs).pooler_output
        embeds = found.embed_texts(["a (dog) runs along a road"], load_prompts()["viclip"].clean)
        torch.testing.assert_close(embeds, expected / expected.norm(dim=1), atol=1e-5, rtol=1e-5)

    def test_the_factor_is_the_models_or_one(self, small_folder, lists, protocol):
        samples, run = samples_of(videos_of(lists)[:1], [0]), Run(str(small_folder), "cpu", HERE)
        assert VideoEmbeddings.compute(protocol, samples, run).factor == pytest.approx(np.exp(4.6052), rel=1e-5)
        assert VideoEmbeddings.compute(replace(protocol, factor="one"), samples, run).factor == 1


def test_unreadable_videos_have_no_scores(small_folder, lists, protocol, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    videos = [str(tmp_path / "noise.mp4"), videos_of(lists)[0]]
    samples = Samples([{"video": video} for video in videos], np.array([1, 0, 1]), labels=np.array([0, 0, 0]))
    found = VideoEmbeddings.compute(protocol, samples, Run(str(small_folder), "cpu", HERE))
    assert list(found.causes) == [0] and not found.vectors[0].any()
    scores = found.without_failures(samples, torch.ones(3, 2))
    assert np.isnan(scores).all(axis=1).tolist() == [False, True, False] and scores[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factor": "two"}, "factor: got 'two', expected one of model, one"),
        ({"family": None}, "family or model is missing"),
        ({"text_length": 2}, "text_length is 2, expected at least 3"),
        ({"text_length": None}, "text_length is None"),
    ],
)
def test_values_that_do_not_suit_are_refused(protocol, changes, words):
    with pytest.raises(RecipeError, match=words):
        check_dual_encoder_protocol(replace(protocol, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"family": "viclip"}, "for viclip, and .* holds internvideo_mm"), ({"text_length": 78}, "text_length=77")],
)
def test_models_that_do_not_suit_are_refused(small_folder, protocol, changes, words):
    with pytest.raises(RecipeError, match=words):
        run = Run(str(small_folder), "cpu", HERE)
        VideoEmbeddings.compute(replace(protocol, **changes), samples_of(["none.mp4"], [0]), run)


def test_a_model_without_texts_is_refused(mae_folder: Path, protocol):
    with pytest.raises(RecipeError, match="has no get_video_features"):
        run = Run(str(mae_folder), "cpu", HERE)
        VideoEmbeddings.compute(replace(protocol, family="internvideo_mae"), samples_of(["none.mp4"], [0]), run)
