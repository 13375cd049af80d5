"""Training of captions, from a dual encoder, and of answers, from the model that it makes."""

import json
import logging as python_logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.recipes import write_data
from transformers import AutoModelForMultimodalLM, AutoModelForVisualQuestionAnswering, AutoProcessor
from transformers.utils import logging

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.training.recipes import parse_recipe
from internvideo_hf.training.run import train

DECODER = {
    "hidden_size": 96,
    "encoder_hidden_size": 96,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_visual_queries": 4,
}
START = {"start": "a dual encoder", "config_of_start": True, "classes_of_start": False}
CAPTIONING = {
    "title": "Captions",
    "source": ["made up"],
    "model": {"family": "internvideo_mm", "task": "captioning", "config": {"decoder_config": DECODER}, **START},
    "data": {
        "train": "captions.csv",
        "validation": "captions.csv",
        "clip": {"sampler": "viclip_train", "view": "contrastive", "view_options": {"flip_probability": 0}},
    },
    "batch_size": 3,
    "training": {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 3,
        "learning_rate": 1e-3,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "save_strategy": "no",
    },
}
ANSWERING = CAPTIONING | {
    "title": "Answers",
    "model": {"family": "internvideo_mm", "task": "question_answering", "config": {"projection_dim": None}, **START},
    "data": CAPTIONING["data"] | {"train": "questions.jsonl", "validation": "others.jsonl", "labels": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = write_data(tmp_path_factory.mktemp("captioning") / "data", 6)
    answers = ["red", "blue", "red", "blue", "red", "rare"]
    rows = [
        {"video": f"{number}.mp4", "question": "which color is it?", "answer": answer}
        for number, answer in enumerate(answers)
    ]
    for name, some in (("questions", rows), ("others", rows[3:])):
        (root / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in some))
    return root


@pytest.fixture(scope="module")
def captioner(data) -> Path:
    recipe = parse_recipe({**CAPTIONING, "model": CAPTIONING["model"] | {"freeze": ["vision", "text", "head"]}})
    return train(recipe, data, data.parent / "run", start=demo_path("demo-mm"), quiet=True)


def log_of(final: Path) -> list[dict]:
    return [json.loads(line) for line in (final.parent / "log.jsonl").read_text().splitlines()]


def test_the_log_has_both_losses_of_training_and_validation(captioner):
    steps = [entry for entry in log_of(captioner) if "loss" in entry]
    assert len(steps) == 2
    for entry in steps:
        assert entry["loss"] == pytest.approx(entry["contrastive_loss"] + entry["caption_loss"], rel=1e-4)
    (entry,) = [entry for entry in log_of(captioner) if "eval_loss" in entry]
    assert entry["eval_loss"] == pytest.approx(entry["eval_contrastive_loss"] + entry["eval_caption_loss"], rel=1e-4)
    assert "eval_text_to_video_R@1" in entry


def test_frozen_towers_stay_and_the_decoder_is_new(captioner):
    towers, ours = (load_file(folder / "model.safetensors") for folder in (demo_path("demo-mm"), captioner))
    assert set(towers) < set(ours)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in towers.items())
    assert {name.partition(".")[0] for name in set(ours) - set(towers)} == {"caption_decoder", "caption_head"}


def test_the_model_writes_in_its_own_vocabulary(captioner):
    model, processor = load_strict(AutoModelForMultimodalLM, captioner), AutoProcessor.from_pretrained(captioner)
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    ids = model.generate(torch.zeros(1, 8, 3, 64, 64), max_new_tokens=3)
    assert isinstance(processor.decode_text(ids[0]), str)


def test_answers_are_learned_from_the_captioner(captioner, data, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("internvideo_hf"), "propagate", True)
    with caplog.at_level(python_logging.WARNING):
        final = train(parse_recipe(ANSWERING), data, tmp_path / "run", start=captioner, quiet=True)
    assert "1 of 6 questions have an answer that is not in the list; left out" in caplog.text
    assert "1 of 3 questions have an answer that is not in the list; counted as wrong" in caplog.text
    model = load_strict(AutoModelForVisualQuestionAnswering, final)
    assert model.config.id2label == {0: "red", 1: "blue"}
    assert model.config.decoder_config.num_hidden_layers == 2
    (entry,) = [entry for entry in log_of(final) if "eval_loss" in entry]
    known = entry["eval_top-1 of known answers"]  # of two questions, the third has the rare answer
    assert known in (0, 50, 100) and entry["eval_top-1"] == pytest.approx(known * 2 / 3)
    rows = (final.parent / "answers/answers.csv").read_text().splitlines()
    assert len(rows) == 4 and ",rare,0," in rows[3]


def test_what_does_not_fit_is_refused(captioner, data, tmp_path):
    with pytest.raises(RecipeError, match=r"training\.grad_cache is for the task contrastive alone"):
        parse_recipe({**CAPTIONING, "training": {"grad_cache": 2}})
    shallow = {**CAPTIONING["model"], "config": {"decoder_config": DECODER | {"num_hidden_layers": 1}}}
    with pytest.raises(CheckpointError, match="has 2 decoder layers, and the model 1"):
        train(parse_recipe({**CAPTIONING, "model": shallow}), data, tmp_path / "run", start=captioner, quiet=True)
    shards = {**ANSWERING["data"], "train": "."}
    with pytest.raises(RecipeError, match="is a folder, expected a list of questions"):
        train(parse_recipe({**ANSWERING, "data": shards}), data, tmp_path / "run", start=captioner, quiet=True)
