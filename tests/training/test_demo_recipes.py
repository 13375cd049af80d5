"""The recipes for the synthetic data set: a few steps of each, their outputs, and their scores."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

import internvideo_hf
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.demo.close_ups import make_data_set as make_close_ups
from internvideo_hf.demo.queried import make_data_set as make_queried
from internvideo_hf.demo.scores import ATTRIBUTES, TOLD, demo_scores
from internvideo_hf.demo.synthetic import ACTIONS, SHAPES, make_data_set
from internvideo_hf.demo.untrimmed import make_data_set as make_untrimmed
from internvideo_hf.inference.features import FeatureExtractor, extract_to_file
from internvideo_hf.training.inputs import TrainingData, make_sampler, make_tokenizer
from internvideo_hf.training.recipes import RecipeError, build_model, load_recipe
from internvideo_hf.training.run import train

SHORT = ["batch_size=8", "training.max_steps=6", "training.warmup_steps=1", "training.dataloader_num_workers=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data_set(folder, 12)
    return folder


def run(name: str, data: Path, folder: Path, start: Path | str | None = None) -> Path:
    return train(load_recipe(f"demo/{name}", SHORT), data, folder / name, start=start, quiet=True)


def weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    """Of one part of a saved model, by their names behind it."""
    tensors = load_file(folder / "model.safetensors")
    return {name.split(part, 1)[1]: tensor for name, tensor in tensors.items() if part in name}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow  # five trainings; the next test has what they hand on
def test_five_stages_hand_on_what_each_has_learned(data, tmp_path):
    stills = tmp_path / "close-ups"
    make_close_ups(stills, 24)
    near = run("mm_near", stills, tmp_path)
    with pytest.raises(RecipeError, match="starts from demo/mm_near"):
        run("mm_stills", stills, tmp_path)
    far = run("mm_stills", stills, tmp_path, near)
    assert AutoConfig.from_pretrained(far).label_heads == AutoConfig.from_pretrained(near).label_heads
    actions = run("mm_actions", data, tmp_path, far)
    towers = [weights(folder, "vision_model.") for folder in (near, far, actions)]
    assert all(one.keys() == towers[0].keys() for one in towers)
    assert not same(towers[0], towers[1]) and not same(towers[1], towers[2])
    assert AutoConfig.from_pretrained(actions).num_frames == 8

    locked = run("mm_locked", data, tmp_path, actions)
    assert same(weights(locked, "vision_model."), towers[2])

    last = run("mm", data, tmp_path, locked)
    assert not same(weights(last, "vision_model."), towers[2]) and not same(
        weights(last, "text_model."), weights(locked, "text_model.")
    )
    assert demo_scores(last, data)["clips"].keys() == {"text_to_video", "video_to_text", *ATTRIBUTES}


def test_what_a_tower_starts_from(data, tmp_path):
    recipe, heads = load_recipe("demo/mm_actions"), {"action": list(ACTIONS), "shape": list(SHAPES)}
    dual, classifier = build_model(load_recipe("demo/mm_locked").model, None, 600), build_model(recipe.model, heads)
    for folder, model in (("dual", dual), ("classifier", classifier)):
        model.save_pretrained(tmp_path / folder)
    started = start_from(build_model(load_recipe("demo/mm_locked").model, None, 600), tmp_path / "classifier")
    assert same(started.vision_model.state_dict(), classifier.vision_model.state_dict())
    started = start_from(build_model(recipe.model, heads), tmp_path / "dual")
    assert same(started.vision_model.state_dict(), dual.vision_model.state_dict())
    with pytest.raises(CheckpointError, match="expected 'viclip', or one with the same kind of video tower"):
        start_from(build_model(load_recipe("demo/viclip").model, None, 600), tmp_path / "classifier")
    other = build_model(load_recipe("demo/mm_actions", ["model.config.hidden_size=64"]).model, heads)
    with pytest.raises(ValueError, match="has the shape"):
        start_from(other, tmp_path / "dual")


@pytest.mark.parametrize("name", ["mm", pytest.param("viclip", marks=pytest.mark.slow)])
def test_a_dual_encoder_comes_with_its_own_words_and_is_scored(name, data, tmp_path):
    final = run(name, data, tmp_path, "random" if name == "mm" else None)
    tokenizer = AutoTokenizer.from_pretrained(final)
    assert len(tokenizer) < 800 and tokenizer.model_max_length == 32
    saved = json.loads((final / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None  # no traces of the last batch
    scores = demo_scores(final, data)
    assert set(scores) == {"clips", "first frame"}
    for found in scores.values():
        assert set(found) == {"text_to_video", "video_to_text", *ATTRIBUTES}
        assert all(0 <= value <= 100 for value in found.values())
    assert sum(file.stat().st_size for file in final.iterdir()) < 10e6


@pytest.mark.parametrize(
    ("name", "scored"), [("captioning", TOLD), ("question_answering", ("color", "action", "background"))]
)
def test_a_decoder_learns_on_frozen_towers_and_is_scored(name, scored, data, tmp_path):
    start = internvideo_hf.demo_path("demo-mm")
    final = run(name, data, tmp_path, start)
    for tower in ("vision_model.", "text_model."):
        assert same(weights(final, tower), {name: t.float() for name, t in weights(start, tower).items()})
    assert (final / "tokenizer.json").read_bytes() == (start / "tokenizer.json").read_bytes()
    scores = demo_scores(final, data)["clips"]
    assert set(scores) == set(scored) and all(0 <= value <= 100 for value in scores.values())


def test_a_classifier_is_scored(data, tmp_path):
    scores = demo_scores(run("classifier", data, tmp_path), data, "val")
    assert {kind: set(found) for kind, found in scores.items()} == {"clips": {"action"}, "first frame": {"action"}}


@pytest.mark.slow
def test_masked_pretraining_and_what_comes_of_it(tmp_path):
    stills = tmp_path / "close-ups"
    make_close_ups(stills, 24)
    pretrained = run("mae_pretrain", stills, tmp_path)
    final = run("mae_finetune", stills, tmp_path, pretrained)
    log = [json.loads(line) for line in (final.parent / "log.jsonl").read_text().splitlines()]
    assert any("eval_shape-top-1" in entry for entry in log)


def test_a_dual_encoder_keeps_the_words_that_it_starts_with(data, tmp_path):
    start = internvideo_hf.demo_path("demo-mm")
    final = run("mm", data, tmp_path, start)
    assert (final / "tokenizer.json").read_bytes() == (start / "tokenizer.json").read_bytes()
    recipe = load_recipe("demo/mm")
    rows = TrainingData.read(recipe.data, recipe.model.task, data).train
    words = make_tokenizer("captions", rows, None, start).get_vocab()
    assert (
        words == AutoTokenizer.from_pretrained(start).get_vocab() != make_tokenizer("captions", rows, None).get_vocab()
    )


def test_an_unknown_split_is_refused(data):
    with pytest.raises(ValueError, match="split"):
        demo_scores("model", data, "dev")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.vocabulary=words", "model.vocabulary: got 'words', expected one of captions"),
        ("data.similar_batches={share: 0.5, until: 3}", "unknown setting data.similar_batches.until"),
        ("training.save_strategy=steps", "save_strategy must be epoch"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("demo/viclip", [change])


def test_settings_of_captions_are_for_dual_encoders():
    for change in ("model.vocabulary=captions", "data.similar_batches={share: 0.5}"):
        with pytest.raises(RecipeError, match="for the task contrastive or captioning alone"):
            load_recipe("demo/classifier", [change])


def test_shards_have_an_order_and_no_vocabulary(tmp_path):
    recipe = load_recipe("demo/viclip", ["data.train=."])
    with pytest.raises(RecipeError, match="got shards"):
        make_sampler(recipe.data, tmp_path, None, None, 8, 0)
    with pytest.raises(RecipeError, match="got the directory"):
        make_tokenizer("captions", tmp_path, None)


@pytest.mark.slow  # drawing, encoding, and a few steps
def test_actions_in_time_are_learned_from_features_of_the_demo_classifier(tmp_path):
    videos, features = tmp_path / "videos", tmp_path / "features"
    make_untrimmed(tmp_path, 2)
    extractor = FeatureExtractor("demo-classifier", 16, 2, device="cpu")
    for video in sorted(videos.iterdir()):
        extract_to_file(extractor, video, features / f"{video.name}.safetensors")
    short = [change for change in SHORT if not change.startswith("batch_size")]
    recipe = load_recipe("demo/actionformer", [*short, "batch_size=2", "training.per_device_train_batch_size=2"])
    final = train(recipe, tmp_path, tmp_path / "run", quiet=True)
    config = AutoConfig.from_pretrained(final)
    assert config.features["encoder"] == "demo-classifier" and config.features["stride"] == 2
    assert (final / "model.safetensors").stat().st_size < 3e6


@pytest.mark.slow  # drawing, encoding, and a few steps
def test_sentences_are_grounded_in_features_of_demo_mm(tmp_path):
    videos, features = tmp_path / "videos", tmp_path / "features"
    make_queried(tmp_path, 2)
    extractor = FeatureExtractor("demo-mm", 8, 2, device="cpu", fps=4.0)
    for video in sorted(videos.iterdir()):
        extract_to_file(extractor, video, features / f"{video.name}.safetensors")
    final = run("temporal_grounding", tmp_path, tmp_path)
    config = AutoConfig.from_pretrained(final)
    assert (config.features["encoder"], config.features["fps"], config.text_encoder) == ("demo-mm", 4, "demo-mm")
    assert "queries of the list `training.csv`" in (final / "README.md").read_text()
