"""`pipeline("zero-shot-video-classification")`."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor, pipeline

from internvideo_hf import VideoDecodeError, ZeroShotVideoClassificationPipeline
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.tasks.zero_shot import pipeline as pipeline_module

LABELS = ["riding a bike", "cooking pasta", "playing chess"]


@pytest.fixture(scope="module")
def classify(mm_folder) -> ZeroShotVideoClassificationPipeline:
    return pipeline("zero-shot-video-classification", model=mm_folder, device="cpu")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 60, 90, 3), dtype=np.uint8)


def test_one_video_gives_labels_with_the_best_first(classify, bikes):
    answers = classify(bikes, candidate_labels=LABELS)
    assert {answer["label"] for answer in answers} == set(LABELS)
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-6)
    assert all(set(answer) == {"label", "score", "similarity"} for answer in answers)


def test_scores_are_the_softmax_of_scaled_cosines(classify, bikes, mm_folder):
    model, processor = AutoModel.from_pretrained(mm_folder).eval(), AutoProcessor.from_pretrained(mm_folder)
    texts = [f"A video of {label}." for label in LABELS]
    with torch.no_grad():
        out = model(**processor(text=texts, videos=bikes, return_tensors="pt"))
    scores = dict(zip(LABELS, out.logits_per_video.softmax(-1)[0].tolist(), strict=True))
    cosines = dict(zip(LABELS, (out.video_embeds @ out.text_embeds.T)[0].tolist(), strict=True))
    for answer in classify(bikes, candidate_labels=LABELS):
        assert answer["score"] == pytest.approx(scores[answer["label"]], abs=1e-5)
        assert answer["similarity"] == pytest.approx(cosines[answer["label"]], abs=1e-5)


def test_prompts_average_probabilities_and_not_embeddings(classify, noise, mm_folder):
    model, processor = AutoModel.from_pretrained(mm_folder).eval(), AutoProcessor.from_pretrained(mm_folder)
    prompts = load_prompts()["kinetics"].templates
    assert len(prompts) == 16
    with torch.no_grad():
        video = model.get_video_features(processor(videos=[noise], return_tensors="pt")["pixel_values_videos"])
        expected = 0
        for prompt in prompts:
            text = model.get_text_features(
                **processor(text=[prompt.format(label) for label in LABELS], return_tensors="pt")
            )
            cosines = normalize(video.pooler_output, dim=-1) @ normalize(text.pooler_output, dim=-1).T
            expected = expected + (model.logit_scale.exp() * cosines).softmax(-1)[0] / len(prompts)
    answers = classify(noise, candidate_labels=LABELS, prompts="kinetics")
    found = torch.tensor([next(a["score"] for a in answers if a["label"] == label) for label in LABELS])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_labels_of_the_last_calls_are_embedded_once(classify, noise, monkeypatch):
    asked = []
    embed = pipeline_module.embed_texts

    def embed_texts(model, processor, texts, **options):
        asked.append(texts)
        return embed(model, processor, texts, **options)

    monkeypatch.setattr(pipeline_module, "embed_texts", embed_texts)
    monkeypatch.setattr(pipeline_module, "KEPT_LABELS", 2)
    expected = {}
    for labels in ("a, b", "c, d", "a, b", "e, f", "a, b", "c, d"):
        found = classify(noise, candidate_labels=labels, hypothesis_template="{}!")
        assert expected.setdefault(labels, found) == found
    assert asked == [["a!", "b!"], ["c!", "d!"], ["e!", "f!"], ["c!", "d!"]]
    with torch.no_grad():
        classify.model.text_projection.weight.mul_(-1)
        assert classify(noise, candidate_labels="c, d", hypothesis_template="{}!") != found
        classify.model.text_projection.weight.mul_(-1)


def test_many_videos_of_several_kinds_equal_one_by_one_at_any_batch_size(classify, bikes, noise):
    videos = [bikes, noise, torch.from_numpy(noise[:5]), bikes.read_bytes()]
    one_by_one = [classify(video, candidate_labels=LABELS) for video in videos]
    for batch_size in (1, 3):
        together = classify(videos, candidate_labels=LABELS, batch_size=batch_size)
        for alone, batched in zip(one_by_one, together, strict=True):
            assert [a["label"] for a in alone] == [b["label"] for b in batched]
            for a, b in zip(alone, batched, strict=True):
                assert a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_a_list_of_one_video_gives_a_list_of_one_answer(classify, noise):
    assert classify([noise], candidate_labels=LABELS) == [classify(noise, candidate_labels=LABELS)]
    assert classify([], candidate_labels=LABELS) == []


def test_top_k_keeps_the_best(classify, noise):
    everything = classify(noise, candidate_labels=LABELS)
    assert classify(noise, candidate_labels=LABELS, top_k=2) == everything[:2]


def test_clips_are_averaged(classify, noise):
    halves = [classify(half, candidate_labels=LABELS) for half in (noise[:6], noise[6:])]
    both = classify(noise, candidate_labels=LABELS, num_clips=2)
    for answer in both:
        of_halves = [next(a["score"] for a in half if a["label"] == answer["label"]) for half in halves]
        assert answer["score"] == pytest.approx(sum(of_halves) / 2, abs=1e-5)


def test_labels_are_embedded_once_for_as_long_as_they_stay_the_same(classify, noise, monkeypatch):
    calls = []
    embed = classify.model.get_text_features
    monkeypatch.setattr(classify.model, "get_text_features", lambda **kwargs: calls.append(1) or embed(**kwargs))
    classify([noise, noise, noise], candidate_labels=["new", "labels"])
    classify(noise, candidate_labels=["new", "labels"])
    assert len(calls) == 1
    classify(noise, candidate_labels=["other", "labels"])
    assert len(calls) == 2


def test_other_weights_are_noticed(mm_folder, noise):
    classify = pipeline("zero-shot-video-classification", model=mm_folder, device="cpu")
    before = classify(noise, candidate_labels=LABELS)
    with torch.no_grad():
        classify.model.text_projection.weight.mul_(-1)
    after = classify(noise, candidate_labels=LABELS)
    for old in before:
        new = next(answer for answer in after if answer["label"] == old["label"])
        assert new["similarity"] == pytest.approx(-old["similarity"], abs=1e-5)


def test_labels_may_be_given_when_the_pipeline_is_made(mm_folder, noise):
    classify = pipeline("zero-shot-video-classification", model=mm_folder, candidate_labels=LABELS, top_k=1)
    assert len(classify(noise)) == 1


def test_a_string_of_labels_is_split_at_its_commas(classify, noise):
    assert classify(noise, candidate_labels=", ".join(LABELS)) == classify(noise, candidate_labels=LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "candidate_labels"),
        ({"candidate_labels": []}, "at least one label"),
        ({"candidate_labels": ["a", ""]}, "empty"),
        ({"candidate_labels": ["a", "a"]}, "twice"),
        ({"candidate_labels": LABELS, "prompts": "imagenet"}, "kinetics"),
        ({"candidate_labels": LABELS, "hypothesis_template": "no place"}, "must hold {}"),
        ({"candidate_labels": LABELS, "hypothesis_template": "{}", "prompts": ["{}"]}, "not both"),
        ({"candidate_labels": LABELS, "top_k": 0}, "top_k"),
    ],
)
def test_a_meaningless_question_is_refused(classify, noise, options, message):
    with pytest.raises(ValueError, match=message):
        classify(noise, **options)


def test_a_damaged_video_is_named(classify, noise, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"")
    with pytest.raises(VideoDecodeError, match="damaged.mp4"):
        classify([noise, damaged], candidate_labels=LABELS)


def test_a_model_without_text_is_refused(mm_folder):
    model = AutoModel.from_pretrained(mm_folder)
    with pytest.raises(ValueError, match="get_text_features|get_video_features"):
        ZeroShotVideoClassificationPipeline(
            model=model.vision_model, processor=AutoProcessor.from_pretrained(mm_folder)
        )


def test_another_family_answers_by_the_same_code(viclip_folder, bikes):
    classify = pipeline("zero-shot-video-classification", model=viclip_folder, device="cpu")
    model, processor = AutoModel.from_pretrained(viclip_folder).eval(), AutoProcessor.from_pretrained(viclip_folder)
    with torch.no_grad():
        out = model(**processor(text=[f"a video of {label}" for label in LABELS], videos=bikes, return_tensors="pt"))
    expected = out.logits_per_video.softmax(-1)[0].tolist()
    answers = {
        answer["label"]: answer for answer in classify(bikes, candidate_labels=LABELS, prompts=["a video of {}"])
    }
    assert [answers[label]["score"] for label in LABELS] == pytest.approx(expected, abs=1e-4)
    assert len(classify(bikes, candidate_labels=LABELS, prompts="viclip", top_k=2)) == 2


@torch.no_grad()
def test_prompts_of_viclip_are_cleaned_and_ranked_by_the_mean_cosine(viclip_folder, bikes):
    labels = ["Riding a bike!", "cooking (pasta)", "a dog runs", "shaking hands", "juggling", "a car stops"]
    classify = pipeline("zero-shot-video-classification", model=viclip_folder, device="cpu")
    model, processor = AutoModel.from_pretrained(viclip_folder).eval(), AutoProcessor.from_pretrained(viclip_folder)
    video = model.get_video_features(processor(videos=[bikes], return_tensors="pt")["pixel_values_videos"])
    expected = []
    for label in ["riding a bike", "cooking pasta", *labels[2:]]:
        texts = [clean_caption(template.format(label)) for template in load_prompts()["kinetics"].templates]
        text = model.get_text_features(**processor(text=texts, return_tensors="pt"))
        expected.append((normalize(video.pooler_output, dim=-1) @ normalize(text.pooler_output, dim=-1).T).mean())
    answers = {answer["label"]: answer for answer in classify(bikes, candidate_labels=labels, prompts="viclip")}
    order = torch.stack(expected).argsort(descending=True).tolist()
    assert list(answers) == [labels[index] for index in order]
    scores = (model.logit_scale.exp() * torch.stack(expected)).softmax(-1)
    for index, label in enumerate(labels):
        assert answers[label]["similarity"] == pytest.approx(expected[index].item(), abs=1e-5)
        assert answers[label]["score"] == pytest.approx(scores[index].item(), abs=1e-4)
