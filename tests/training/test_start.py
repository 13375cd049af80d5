"""What a training starts from: sizes, classes and processors of the start; refusals before lists are read."""

import json
from pathlib import Path

import pytest
from program import assert_refused, run
from safetensors.torch import load_file
from training.recipes import write_data
from transformers import AutoConfig, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor

from internvideo_hf import InternVideoMAEConfig
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.start import config_of_start, find_start, same_classes

SHORT = ["batch_size=2", "training.max_steps=1", "training.per_device_train_batch_size=2", "data.validation=null"]
SHORT += ["training.dataloader_num_workers=0", "training.save_strategy=no", "training.learning_rate=0.0001"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Return a folder with clips of two classes, in folders."""
    root = tmp_path_factory.mktemp("clips")
    write_data(root / "data", count=4)
    for number in range(4):
        file = root / "train" / ("waves", "claps")[number % 2] / f"{number}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(root / f"data/{number}.mp4")
    return root


def finetune(recipe: str, start: str | Path, data_root: Path, out: Path, *changes: str) -> Path:
    options = ["--data-root", data_root, "--start-from", start, "--output-dir", out, "--quiet"]
    done = run("train", recipe, *SHORT, *changes, *options)
    assert done.returncode == 0, done.stderr
    return out / "final"


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size", "num_frames")


@pytest.mark.parametrize(
    ("recipe", "start"),
    [
        ("uniformerv2/finetune_base", "demo-classifier"),
        ("uniformerv2/finetune_base", "demo-mm"),
        pytest.param("videomae/finetune_base", "mae_folder", marks=pytest.mark.slow),
        ("videomae/finetune_base", "mae_pretrained_folder"),
    ],
)
def test_classifiers_have_the_size_of_the_start_and_the_classes_of_the_folders(
    recipe, start, clips, tmp_path, request
):
    folder = demo_path(start) if start.startswith("demo") else request.getfixturevalue(start)
    final = finetune(recipe, start if start.startswith("demo") else folder, clips, tmp_path / "run")
    model, config = AutoModelForVideoClassification.from_pretrained(final), AutoConfig.from_pretrained(folder)
    given = getattr(config, "vision_config", config)
    assert [getattr(model.config, name) for name in SIZES] == [getattr(given, name) for name in SIZES]
    assert model.config.id2label == {0: "claps", 1: "waves"} and model.config.label2id == {"claps": 0, "waves": 1}
    assert model.classifier.weight.shape == (2, given.hidden_size)
    ours, theirs = (AutoVideoProcessor.from_pretrained(path).to_dict() for path in (final, folder))
    assert {**ours, "released_views": None} == {**theirs, "released_views": None}


def test_weights_and_heads_of_the_same_classes_are_loaded(clips, tmp_path):
    names = list(AutoConfig.from_pretrained(demo_path("demo-classifier")).id2label.values())
    (clips / "twelve.txt").write_text("\n".join(names))
    (clips / "twelve.csv").write_text(f"data/0.mp4;{names[3]}\ndata/1.mp4;{names[1]}\n")
    lists = ["data.train=twelve.csv", "data.labels=twelve.txt", "training.learning_rate=1e-12"]
    final = finetune("uniformerv2/finetune_base", "demo-classifier", clips, tmp_path / "run", *lists)
    before, after = (load_file(path / "model.safetensors") for path in (demo_path("demo-classifier"), final))
    for name, tensor in before.items():
        if "num_batches_tracked" not in name and "running" not in name:
            assert (after[name] - tensor).abs().max() < 1e-6, name


def test_a_dual_encoder_keeps_its_words_and_loses_its_calibration(viclip_folder, clips, tmp_path):
    (clips / "train.csv").write_text("video,caption\ndata/0.mp4,a wave\ndata/1.mp4,somebody claps\n")
    try:
        final = finetune("viclip/finetune_base", viclip_folder, clips, tmp_path / "run", "training.grad_cache=null")
    finally:
        (clips / "train.csv").unlink()
    ours, theirs = (AutoConfig.from_pretrained(path) for path in (final, viclip_folder))
    assert ours.vision_config.hidden_size == theirs.vision_config.hidden_size
    assert ours.vision_config.mask_ratio == 0.0 and ours.vision_config.drop_path_rate == 0.1
    ours, theirs = (AutoProcessor.from_pretrained(path) for path in (final, viclip_folder))
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab() and ours.null_captions is None


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["question_answering/custom", "question_answering/tgif_base"])
def test_answers_are_those_of_the_list_and_the_sizes_those_of_the_captioner(recipe, captioner, clips, tmp_path):
    rows = [
        {key: f"data/{number}.mp4", "question": "what?", "answer": "ab"[number % 2]}
        for number in range(4)
        for key in ("gif_name" if "tgif" in recipe else "video",)
    ]
    (clips / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lists = ["data.train=questions.jsonl", "data.labels=null"]
    final = finetune(recipe, captioner, clips, tmp_path / "run", *lists)
    ours, theirs = (AutoConfig.from_pretrained(path) for path in (final, captioner))
    assert ours.id2label == {0: "a", 1: "b"} and ours.architectures == ["InternVideoMMForQuestionAnswering"]
    assert ours.decoder_config.num_hidden_layers == theirs.decoder_config.num_hidden_layers
    assert ours.vision_config.hidden_size == theirs.vision_config.hidden_size
    before, after = (load_file(path / "model.safetensors") for path in (captioner, final))
    assert after.keys() - before.keys() and all(
        name.startswith("classifier.") for name in after.keys() - before.keys()
    )


@pytest.mark.parametrize(
    ("recipe", "start", "words"),
    [
        (
            "videomae/finetune_base",
            "demo-classifier",
            ("'uniformerv2' model", "uniformerv2/finetune_base --start-from"),
        ),
        ("viclip/finetune_base", "demo-classifier", ("'uniformerv2' model", "uniformerv2/finetune_base --start-from")),
        ("uniformerv2/finetune_base", "mae_folder", ("an 'internvideo_mae'", "videomae/finetune_base --start-from")),
        ("internvideo/cma_k400", "demo-classifier", ("expected 'internvideo'", "uniformerv2/finetune_base")),
        ("uniformerv2/k400_base_8frames", "viclip_folder", ("a 'viclip' model", "viclip/finetune_base --start-from")),
    ],
)
def test_another_family_is_refused_with_its_recipe_before_lists_are_read(recipe, start, words, tmp_path, request):
    start = start if start.startswith("demo") else request.getfixturevalue(start)
    assert_refused(run("train", recipe, "--data-root", tmp_path / "nowhere", "--start-from", start), *words)


def test_the_directory_of_a_run_is_refused_with_that_of_its_model(tmp_path):
    (tmp_path / "run/final").mkdir(parents=True)
    (tmp_path / "run/final/config.json").write_text(json.dumps({"model_type": "uniformerv2"}))
    refused = run("train", "uniformerv2/finetune_base", "--start-from", tmp_path / "run")
    assert_refused(refused, f"{tmp_path}/run is the directory of a training run; its model is {tmp_path}/run/final.")


def test_only_a_configuration_of_the_family_is_taken_over(tmp_path):
    settings = load_recipe("uniformerv2/finetune_base").model
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "ViT-B-16.pt").touch()
    for start in ("random", str(tmp_path / "ViT-B-16.pt"), str(tmp_path / "clip")):
        assert config_of_start(settings, start) is None
    assert config_of_start(settings, find_start("demo-classifier")).num_frames == 16
    assert config_of_start(load_recipe("uniformerv2/k400_base_8frames").model, find_start("demo-classifier")) is None
    with pytest.raises(CheckpointError, match="x is not a model directory"):
        config_of_start(load_recipe("internvideo/cma_k400").model, str(tmp_path / "x"))


def test_a_recipe_that_starts_from_a_bundled_model_needs_no_start():
    assert find_start(None, "demo-mm") == find_start("demo-mm") == str(demo_path("demo-mm"))
    assert find_start(None, "CLIP") is None and find_start("random", "demo-mm") == "random"


def test_several_heads_of_a_start_are_kept_in_their_order():
    heads = {"verb": ["cut", "wash"], "noun": ["onion"]}
    config = InternVideoMAEConfig(label_heads=heads)
    assert same_classes(None, config, "start") == same_classes(heads, config, "start") == heads
    with pytest.raises(RecipeError, match="start has 3 classes"):
        same_classes({"noun": ["onion"], "verb": ["cut", "wash"]}, config, "start")
