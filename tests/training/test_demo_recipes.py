"""The recipes for the drawn data set: a few steps of each, what they leave, and how it is scored."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from internvideo_hf.data.synthetic import make_data_set
from internvideo_hf.evaluation.demo import ATTRIBUTES, demo_scores
from internvideo_hf.training.inputs import make_sampler, make_tokenizer
from internvideo_hf.training.recipes import RecipeError, load_recipe
from internvideo_hf.training_run import train

SHORT = ["batch_size=8", "training.max_steps=6", "training.warmup_steps=1", "training.dataloader_num_workers=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data_set(folder, 12)
    return folder


def run(name: str, data: Path, folder: Path) -> Path:
    return train(load_recipe(f"demo/{name}", SHORT), data, folder / "run", quiet=True)


@pytest.mark.parametrize("name", ["mm", pytest.param("viclip", marks=pytest.mark.slow)])
def test_a_dual_encoder_comes_with_its_own_words_and_is_scored(name, data, tmp_path):
    final = run(name, data, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(final)
    assert len(tokenizer) < 800 and tokenizer.model_max_length == 32
    scores = demo_scores(final, data)
    assert set(scores) == {"clips", "first frame"}
    for found in scores.values():
        assert set(found) == {"text_to_video", "video_to_text", *ATTRIBUTES}
        assert all(0 <= value <= 100 for value in found.values())
    assert sum(file.stat().st_size for file in final.iterdir()) < 10e6


def test_a_classifier_is_scored(data, tmp_path):
    scores = demo_scores(run("classifier", data, tmp_path), data, "val")
    assert {kind: set(found) for kind, found in scores.items()} == {"clips": {"action"}, "first frame": {"action"}}


def test_an_unknown_split_is_refused(data):
    with pytest.raises(ValueError, match="split"):
        demo_scores("model", data, "dev")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.vocabulary=words", "model.vocabulary is 'words', expected captions"),
        ("data.similar_batches={share: 0.5, until: 3}", "similar_batches.until is no setting"),
        ("training.save_strategy=steps", "save_strategy must be epoch"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("demo/viclip", [change])


def test_settings_of_captions_are_for_dual_encoders():
    for change in ("model.vocabulary=captions", "data.similar_batches={share: 0.5}"):
        with pytest.raises(RecipeError, match="for the task contrastive alone"):
            load_recipe("demo/classifier", [change])


def test_shards_have_an_order_and_no_vocabulary(tmp_path):
    recipe = load_recipe("demo/viclip", ["data.train=."])
    with pytest.raises(RecipeError, match="these are shards"):
        make_sampler(recipe, object(), None, None, 8, 0)
    with pytest.raises(RecipeError, match="is a folder"):
        make_tokenizer(recipe, tmp_path)
