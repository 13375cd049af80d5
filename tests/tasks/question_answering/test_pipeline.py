"""`pipeline("video-question-answering")`: equal to the model's own logits, and one decode for all questions."""

import logging

import numpy as np
import pytest
import torch
from conftest import ANSWERS
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline

from internvideo_hf import VideoDecodeError, VideoQuestionAnsweringPipeline, VideoReader, demo_path
from internvideo_hf.data.answers import BACKGROUND

QUESTIONS = ["What does the man do?", "who sings?"]


@pytest.fixture(scope="module")
def ask(answerer) -> VideoQuestionAnsweringPipeline:
    return pipeline("video-question-answering", model=answerer, device="cpu")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def by_hand(answerer):
    """Return a function from a video and questions to the probability of each answer, by name."""
    model = AutoModelForVisualQuestionAnswering.from_pretrained(answerer).eval()
    processor = AutoProcessor.from_pretrained(answerer)

    @torch.no_grad()
    def answer(video, questions) -> list[dict[str, float]]:
        inputs = processor(videos=[video] * len(questions), text=questions, return_tensors="pt")
        rows = model(**inputs).logits.softmax(-1).tolist()
        return [dict(zip(ANSWERS, row, strict=True)) for row in rows]

    return answer


def scores(answers) -> dict[str, float]:
    return {answer["answer"]: answer["score"] for answer in answers}


def test_scores_are_the_softmax_of_the_logits_best_first(ask, by_hand, bikes):
    found = ask(bikes, question=QUESTIONS[0])
    (expected,) = by_hand(bikes, QUESTIONS[:1])
    assert scores(found) == pytest.approx(expected, abs=1e-5)
    assert [answer["answer"] for answer in found] == sorted(expected, key=expected.get, reverse=True)


def test_several_questions_are_answered_about_each_of_several_videos(ask, by_hand, bikes, noise):
    videos = [bikes, noise, torch.from_numpy(noise[:5])]
    expected = [by_hand(video, QUESTIONS) for video in videos]
    for batch_size in (1, 2):
        found = ask(videos, question=QUESTIONS, batch_size=batch_size)
        for of_video, by_video in zip(found, expected, strict=True):
            for answers, by_question in zip(of_video, by_video, strict=True):
                assert scores(answers) == pytest.approx(by_question, abs=1e-5)
        one = ask(videos, question=QUESTIONS[1], batch_size=batch_size, top_k=2)
        assert [len(answers) for answers in one] == [2, 2, 2]
        assert scores(one[0]) == pytest.approx(scores(found[0][1][:2]), abs=1e-5)
    assert ask([], question="who?") == []
    assert len(ask(noise, question=["who sings?"])) == 1


def test_clips_are_averaged(ask, by_hand, noise):
    halves = [by_hand(half, QUESTIONS[:1])[0] for half in (noise[:6], noise[6:])]
    found = scores(ask(noise, question=QUESTIONS[0], num_clips=2))
    assert found == pytest.approx({name: (halves[0][name] + halves[1][name]) / 2 for name in ANSWERS}, abs=1e-5)


def test_a_video_is_decoded_once_for_all_questions(ask, bikes, noise, monkeypatch):
    read, decoded = VideoReader.read, []
    monkeypatch.setattr(VideoReader, "read", lambda self, *args: decoded.append(1) or read(self, *args))
    ask([bikes, noise], question=[*QUESTIONS, "where?"])
    assert len(decoded) == 2


def test_the_background_takes_no_part(ask, noise, monkeypatch):
    whole = scores(ask(noise, question="who?"))
    monkeypatch.setattr(ask.model.config, "id2label", dict(enumerate([*ANSWERS[:-1], BACKGROUND])))
    found = ask(noise, question="who?", top_k=99)
    share = 1 - whole[ANSWERS[-1]]
    assert scores(found) == pytest.approx({name: whole[name] / share for name in ANSWERS[:-1]})


def test_a_question_longer_than_the_table_is_cut_in_front_of_its_end(ask, noise, caplog, monkeypatch):
    logging.Logger.warning_once.cache_clear()
    longest = ask(noise, question="word " * 74)
    assert not caplog.records
    for number in (75, 76, 200):
        assert ask(noise, question="word " * number) == longest
    assert [record.message for record in caplog.records] == [
        "A question is longer than 76 tokens, and is cut in front of its end."
    ]


def test_a_saved_pipeline_loads(ask, noise, tmp_path):
    ask.save_pretrained(tmp_path)
    again = pipeline("video-question-answering", model=str(tmp_path), question="who?")
    assert scores(again(noise)) == pytest.approx(scores(ask(noise, question="who?")), abs=1e-6)


def test_a_model_without_a_head_for_answers_is_refused(ask, monkeypatch):
    with pytest.raises(ValueError, match="has no decoder_config: this model holds no caption decoder"):
        pipeline("video-question-answering", model=demo_path("demo-mm"))
    # As transformers loads it out of the folder of a captioner, with a random head.
    monkeypatch.setattr(ask.model.config, "architectures", ["InternVideoMMForConditionalGeneration"])
    with pytest.raises(ValueError, match="holds an InternVideoMMForConditionalGeneration, expected a model that ends"):
        pipeline("video-question-answering", model=ask.model, processor=ask.processor)


@pytest.mark.parametrize("question", ["", " ", "&nbsp;", [], ["who?", ""], [3]])
def test_an_empty_question_is_refused(ask, noise, question):
    with pytest.raises(ValueError, match="expected one text or several, and no empty one"):
        ask(noise, question=question)


def test_other_mistakes_are_refused(ask, noise, tmp_path):
    with pytest.raises(ValueError, match="Pass question"):
        ask(noise)
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        ask(noise, question="who?", top_k=0)
    with pytest.raises(TypeError, match="Did you mean question"):
        ask(noise, questions="who?")
    (tmp_path / "damaged.mp4").write_bytes(b"")
    with pytest.raises(VideoDecodeError, match=r"damaged\.mp4"):
        ask([noise, tmp_path / "damaged.mp4"], question="who?")
