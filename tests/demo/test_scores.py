"""Scores on drawn clips: equal to those of the model asked by hand."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor

import internvideo_hf
from internvideo_hf.demo import scores
from internvideo_hf.demo.scores import attributes_in, demo_scores
from internvideo_hf.demo.synthetic import (
    ACTIONS,
    ATTRIBUTES_LIST,
    BACKGROUNDS,
    COLORS,
    canonical_caption,
    captions,
    clip_at,
    make_data_set,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "drawn"
    make_data_set(folder, 12)
    return folder


@pytest.fixture(scope="module")
def clips(data) -> list:
    return scores._clips(data, "test")


def test_a_classifier_is_scored_by_its_best_action(data, clips):
    folder = internvideo_hf.demo_path("demo-classifier")
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    processor = AutoVideoProcessor.from_pretrained(folder)
    right = []
    for clip in clips:
        pixels = processor(str(data / clip.video), return_tensors="pt")["pixel_values_videos"]
        with torch.no_grad():
            right.append(model(pixels).logits.argmax().item() == clip.label)
    assert demo_scores(folder, data)["clips"] == {"action": pytest.approx(100 * np.mean(right))}


def test_a_dual_encoder_is_scored_by_the_caption_and_by_one_changed_word(data, clips):
    folder = internvideo_hf.demo_path("demo-mm")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)

    def logits(texts: list[str]) -> torch.Tensor:
        videos = [str(data / clip.video) for clip in clips]
        with torch.no_grad():
            return model(**processor(videos=videos, text=texts, return_tensors="pt", padding=True)).logits_per_video

    found = demo_scores(folder, data)["clips"]
    captions = [canonical_caption(clip) for clip in clips]
    own = logits(captions)
    ranks = (own.T > own.diagonal()[:, None]).sum(dim=1)
    assert found["text_to_video"] == pytest.approx(100 * (ranks == 0).float().mean().item())
    colors = []
    for number, clip in enumerate(clips):
        texts = [captions[number].replace(f" {clip.color} ", f" {color} ") for color in COLORS]
        assert captions[number] in texts
        colors.append(texts[logits(texts)[number].argmax()] == captions[number])
    assert found["color"] == pytest.approx(100 * np.mean(colors))


def test_a_caption_says_what_its_words_and_their_synonyms_say():
    for clip in (clip_at("train", index) for index in range(60)):
        for caption in captions(clip)[:3]:
            assert attributes_in(caption) == {name: getattr(clip, name) for name in scores.ATTRIBUTES}
    assert attributes_in("the moon circles around counterclockwise")["action"] == "circles around counterclockwise"
    nothing = dict.fromkeys(scores.ATTRIBUTES)
    assert attributes_in("a redder thing movesup") == nothing
    assert attributes_in("a red heart and a blue heart") == nothing | {"shape": "heart"}


def test_captions_and_answers_are_scored_by_what_they_say(data, clips, monkeypatch):
    """Models that say of each clip what they are told to; the last of three clips gets a wrong color."""
    told = [canonical_caption(clip) for clip in clips]
    told[-1] = told[-1].replace(f" {clips[-1].color} ", " no ")
    processor = SimpleNamespace(decode_text=lambda ids: told[ids])
    model = SimpleNamespace(generate=lambda part: part)
    found = scores._by_caption(model, processor, clips, iter([list(range(len(clips)))]))
    share = 100 * (len(clips) - 1) / len(clips)
    assert found == dict.fromkeys(("action", "background", "size"), 100.0) | {"color": pytest.approx(share)}

    names = [*COLORS, *ACTIONS, *BACKGROUNDS]
    rows = [[names.index(clip.color), names.index(clip.action), names.index(clip.background)] for clip in clips]
    rows[0][1] = (rows[0][1] - len(COLORS) + 1) % len(ACTIONS) + len(COLORS)  # another action

    def answer(clip, ids):
        return SimpleNamespace(logits=one_hot(torch.tensor(rows[int(clip)]), len(names)))

    answer.config = SimpleNamespace(id2label=dict(enumerate(names)), num_labels=len(names))
    processor = SimpleNamespace(encode_questions=lambda questions: {"input_ids": list(questions)})
    found = scores._by_answer(answer, processor, clips, iter([torch.arange(len(clips))]))
    assert found == {"color": 100.0, "action": pytest.approx(share), "background": 100.0}


def test_splits_and_folders_that_are_none_are_refused(data, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="split: got 'dev', expected one of train, val, test"):
        demo_scores("model", data, "dev")
    model = internvideo_hf.demo_path("demo-classifier")
    for arguments, words in (((tmp_path, data), "is not a model folder"), ((model, tmp_path), ATTRIBUTES_LIST)):
        monkeypatch.setattr(sys, "argv", ["scores", *map(str, arguments)])
        with pytest.raises(SystemExit):
            scores.main()
        assert words in capsys.readouterr().err


def test_the_command_prints_a_line_for_clips_and_one_for_still_frames(data, monkeypatch, capsys):
    model = internvideo_hf.demo_path("demo-classifier")
    monkeypatch.setattr(sys, "argv", ["scores", str(model), str(data), "--split", "val"])
    scores.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["val, clips: action", "val, first frame: action"]
