"""Training of the fused model: aligned inputs, the paper's recipe, cached features, saved files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from data.executors.here import Here
from data.settings import write_videos
from models.model_checks import move_from_start
from program import assert_refused, run
from safetensors.torch import load_file
from training.recipes import write_data, write_recipe
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints import fuse_encoders
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.samples import SampleSettings, make_sample
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.training.inputs import sample_settings
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.recipes import RecipeError, build_model, load_recipe, parse_recipe
from internvideo_hf.training.schedules import SCHEDULES
from internvideo_hf.utils.locks import lock_folder

FUSED = {
    "title": "A small fused model",
    "source": ["made up"],
    "model": {
        "family": "internvideo",
        "task": "classification",
        "start": "what fuse makes",
        "config_of_start": True,
        "config": {"classifier_dropout": 0.5},
    },
    "data": {
        "validation": "train.csv",
        "clip": {
            "sampler": "videomae_dense_train",
            "sampler_options": {"sampling_rate": 2},
            "view": "finetuning",
            "inputs": {"uniformerv2": {"sampler": "uniformerv2_train", "sampler_options": {}}},
        },
    },
    "batch_size": 4,
    "training": {
        "max_steps": 2,  # one epoch
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "weight_decay": 1e-3,
        "decay_rule": "internvideo",
        "ema_decay": 0.5,
        "evaluate_ema": True,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
    },
}


@pytest.fixture(scope="module")
def fused(tmp_path_factory) -> Path:
    """Fuse two small classifiers that differ in frames and size with `internvideo fuse`."""
    folder, labels = tmp_path_factory.mktemp("fused"), {number: f"class {number}" for number in range(8)}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "id2label": labels}
    torch.manual_seed(0)
    mae = InternVideoMAEConfig(**sizes, hidden_size=16, image_size=16, num_frames=4)
    uniformerv2 = UniFormerV2Config(
        **sizes, hidden_size=24, image_size=24, global_layers=[0, 1], num_frames=3, num_local_blocks=1
    )
    for model, size, frames, sampler in (
        (InternVideoMAEForVideoClassification(mae), 16, 4, "videomae_dense"),
        (UniFormerV2ForVideoClassification(uniformerv2), 24, 3, "uniformerv2"),
    ):
        move_from_start(model).save_pretrained(folder / model.config.model_type)
        InternVideoVideoProcessor(
            num_frames=frames, sampler=sampler, size={"height": size, "width": size}, do_center_crop=False
        ).save_pretrained(folder / model.config.model_type)
    done = run(
        "fuse", folder / "internvideo_mae", folder / "uniformerv2", "--out", folder / "fused", "--adapters-only"
    )
    assert done.returncode == 0, done.stderr
    assert "8 classes, cross-model attention after layers 0, 1" in done.stdout
    return folder / "fused"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("fused data") / "data")


def train(recipe: Path, data: Path, start: Path, out: Path, *changes: str):
    return run("train", recipe, *changes, "--data-root", data, "--start-from", start, "--output-dir", out, "--quiet")


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_folder / "final/model.safetensors")


class TestTheCommandFuse:
    def test_folder_holds_model_and_processor_and_refers_to_the_encoders(self, fused):
        model = AutoModelForVideoClassification.from_pretrained(fused)
        assert Path(model.config.encoders["uniformerv2"]).is_absolute()
        assert AutoVideoProcessor.from_pretrained(fused).uniformerv2.num_frames == 3
        assert not any("internvideo_mae.layers" in name for name in load_file(fused / "model.safetensors"))
        assert "not trained" in (fused / "README.md").read_text()

    def test_folders_are_not_replaced_by_accident(self, fused):
        mae, uniformerv2 = fused.parent / "internvideo_mae", fused.parent / "uniformerv2"
        done = run("fuse", mae, uniformerv2, "--out", fused)
        assert done.returncode == 2 and "--overwrite" in done.stderr
        done = run("fuse", mae, uniformerv2, "--out", mae, "--overwrite")
        assert done.returncode == 2 and "one of the encoders" in done.stderr
        done = run("fuse", uniformerv2, mae, "--out", fused.parent / "new")
        assert done.returncode == 2 and "expected 'internvideo_mae'" in done.stderr
        assert not (fused.parent / "new").exists()


class TestSamples:
    def settings(self, **changes) -> SampleSettings:
        options = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}
        return SampleSettings(4, "videomae_dense_train", "finetuning", {"sampling_rate": 2}, options | changes)

    def test_both_inputs_are_cut_flipped_and_colored_alike(self, tmp_path):
        row = write_videos(tmp_path, 1)[0]
        twice = {"pixel_values_videos": self.settings(), "uniformerv2_pixel_values_videos": self.settings()}
        sample = make_sample(row, twice, seed=3)
        assert torch.equal(sample["pixel_values_videos"], sample["uniformerv2_pixel_values_videos"])
        assert not torch.equal(make_sample(row, twice, seed=4)["pixel_values_videos"], sample["pixel_values_videos"])
        # Although one rule draws a start and the other one a place in each segment.
        sparse = SampleSettings(4, "uniformerv2_train", "finetuning", {}, self.settings().view_options)
        several = {"pixel_values_videos": self.settings(), "uniformerv2_pixel_values_videos": sparse}
        other = make_sample(row, several, seed=3)
        assert torch.equal(other["pixel_values_videos"], sample["pixel_values_videos"])

    def test_sizes_and_statistics_are_each_encoders_own(self, tmp_path):
        row = write_videos(tmp_path, 1)[0]
        other = SampleSettings(
            3, "uniformerv2_train", "finetuning", {}, {"size": 24, "mean": [0.0] * 3, "std": [1.0] * 3}
        )
        sample = make_sample(
            row, {"pixel_values_videos": self.settings(), "uniformerv2_pixel_values_videos": other}, 0
        )
        assert sample["pixel_values_videos"].shape == (4, 3, 16, 16)
        assert sample["uniformerv2_pixel_values_videos"].shape == (3, 3, 24, 24)
        batch = VideoCollator(fill_gaps=True)([sample, {"failure": "damaged"}])
        assert [len(value) for value in batch.values()] == [2, 2, 2]
        assert not batch["uniformerv2_pixel_values_videos"][1].any() and batch["labels"][1] == -100

    def test_validation_takes_the_processors_pixels(self, fused, tmp_path):
        row, processor = write_videos(tmp_path, 1)[0], AutoVideoProcessor.from_pretrained(fused)
        recipe = load_recipe(str(write_recipe(tmp_path, FUSED)))
        sample = make_sample(row, sample_settings(recipe.data.clip, processor, training=False), seed=0)
        made = processor(str(row["video"]), return_tensors="pt")
        for name in processor.branches:
            assert torch.equal(sample[name], made[name][0]), name


class TestRuns:
    @pytest.fixture(scope="class")
    def ended(self, fused, data, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("run")
        done = train(write_recipe(folder, FUSED), data, fused, folder / "run")
        assert done.returncode == 0, done.stderr
        return folder / "run"

    def test_only_what_the_paper_trains_has_changed(self, ended, fused):
        before = AutoModelForVideoClassification.from_pretrained(fused)
        frozen, start, after = before.frozen_state(), before.state_dict(), weights(ended)
        assert after.keys() == start.keys()
        for name, tensor in after.items():
            assert torch.equal(tensor, start[name]) == (name in frozen), name

    def test_final_model_and_processor_are_those_of_the_start(self, ended, fused):
        model = AutoModelForVideoClassification.from_pretrained(ended / "final")
        assert model.config.id2label[3] == "class 3" and model.config.classifier_dropout == 0.5
        processor = AutoVideoProcessor.from_pretrained(ended / "final")
        assert processor.to_dict() == AutoVideoProcessor.from_pretrained(fused).to_dict()

    def test_average_leaves_out_what_is_frozen(self, ended):
        average = load_file(next(ended.glob("checkpoint-*")) / "average.safetensors")
        assert any("exchanges" in name for name in average)
        assert not any("internvideo_mae.layers" in name and "num_batches" not in name for name in average)

    def test_kept_trunks_give_the_same_weights(self, ended, fused, data, tmp_path):
        recipe, cache = write_recipe(tmp_path, FUSED), f"data.trunk_cache={{folder: {tmp_path / 'kept'}}}"
        done = train(recipe, data, fused, tmp_path / "run", cache)
        assert done.returncode == 0, done.stderr
        expected, found = weights(ended), weights(tmp_path / "run")
        for name, tensor in expected.items():
            torch.testing.assert_close(
                found[name], tensor, atol=1e-6, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
            )
        files = sorted((tmp_path / "kept").rglob("*.safetensors"))
        assert len(files) == 16  # eight clips that were drawn, eight of validation

        times = [file.stat().st_mtime_ns for file in files]
        again = train(recipe, data, fused, tmp_path / "again", cache)
        assert again.returncode == 0, again.stderr
        assert [file.stat().st_mtime_ns for file in files] == times, "computed again"
        assert all(torch.equal(tensor, found[name]) for name, tensor in weights(tmp_path / "again").items())

    def test_a_cache_that_was_filled_before_is_complete(self, fused, data, tmp_path, monkeypatch):
        monkeypatch.setattr("internvideo_hf.cli.training.engine_of", lambda *arguments, **options: Here())
        recipe, kept = write_recipe(tmp_path, FUSED), tmp_path / "kept"
        changes = (f"data.trunk_cache={{folder: {kept}, views: 2}}", "training.max_steps=4")
        options = ("--data-root", data, "--start-from", fused)
        filled = run("cache", recipe, *changes, *options)
        assert filled.returncode == 0 and "Of 24 clips, 24 are new" in filled.stdout, filled.stderr
        times = {file: file.stat().st_mtime_ns for file in kept.rglob("*.safetensors")}
        monkeypatch.setattr("internvideo_hf.training.cache_filling._write", lambda *given: pytest.fail("computed"))
        done = train(recipe, data, fused, tmp_path / "run", *changes)
        assert done.returncode == 0, done.stderr
        assert {file: file.stat().st_mtime_ns for file in kept.rglob("*.safetensors")} == times and len(times) == 24
        again = run("cache", recipe, *changes, *options)
        assert again.returncode == 0 and "Of 24 clips, 0 are new" in again.stdout
        assert not list(kept.glob("*.jsonl")) and not list(kept.glob(".*"))

    def test_commands_that_cannot_fill_a_cache_are_refused(self, fused, data, tmp_path, monkeypatch):
        monkeypatch.setattr("internvideo_hf.cli.training.engine_of", lambda *arguments, **options: Here())
        recipe, options = write_recipe(tmp_path, FUSED), ("--data-root", data, "--start-from", fused)
        assert_refused(run("cache", recipe, *options), "Add data.trunk_cache.folder=FOLDER")
        change = f"data.trunk_cache={{folder: {tmp_path / 'kept'}}}"
        trained = run("cache", recipe, change, "model.config.freeze_encoders=false", *options)
        assert_refused(trained, "needs frozen encoders")
        with lock_folder(tmp_path / "kept"):
            assert_refused(run("cache", recipe, change, *options), "is being written by process")
        (data / "broken.mp4").write_bytes(b"no video")
        (data / "more.csv").write_text((data / "train.csv").read_text() + "broken.mp4,0\n")
        done = run("cache", recipe, change, "data.train=more.csv", *options, "--quiet")
        assert done.returncode == 1 and "1 of 9 failed" in done.stderr and "broken.mp4" in done.stderr
        assert json.loads((tmp_path / "kept/failures.jsonl").read_text())["video"].endswith("broken.mp4")

    def test_several_views_are_kept_and_validation_has_one(self, fused, data, tmp_path):
        changes = ["data.trunk_cache={folder: " + str(tmp_path / "kept") + ", views: 2}", "training.max_steps=4"]
        changes += ["training.dataloader_num_workers=1", "training.ema_decay=null", "training.evaluate_ema=false"]
        done = train(write_recipe(tmp_path, FUSED), data, fused, tmp_path / "run", *changes)
        assert done.returncode == 0, done.stderr
        log = (tmp_path / "run/log.jsonl").read_text()
        assert log.count("eval_top-1") == 2
        assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == 24

    def test_other_classes_and_models_are_refused(self, fused, data, tmp_path):
        recipe = write_recipe(tmp_path, FUSED)
        for changes, start, message in (
            (["data.labels=hmdb51"], fused, "same classes in the same order"),
            ([], fused.parent / "uniformerv2", "what fuse makes"),
            (["data.mixup={mixup_alpha: 0.8}"], fused, "not for internvideo, which has several inputs"),
            (["data.clip.inputs.uniformerv2={samler: x}"], fused, "Did you mean data.clip.inputs.uniformerv2.sampler"),
            (["data.trunk_cache={folder: x, views: 0}"], fused, "1 or more"),
            (["data.trunk_cache={folder: x}", "model.config.freeze_encoders=false"], fused, "needs frozen encoders"),
            (["model.processor.num_frames=3"], fused, "one of the model's encoders"),
        ):
            done = train(recipe, data, start, tmp_path / "refused", *changes)
            assert done.returncode == 2 and message in done.stderr, (message, done.stderr)
        done = train(recipe, data, tmp_path / "nowhere", tmp_path / "refused")
        assert done.returncode == 2 and "not a model directory" in done.stderr
        other = write_recipe(tmp_path, FUSED | {"model": FUSED["model"] | {"family": "uniformerv2"}})
        done = train(other, data, fused, tmp_path / "refused")
        assert done.returncode == 2 and "are for the family internvideo alone" in done.stderr


class TestTheRecipeOfThePaper:
    """Section 4.2.3 of arXiv:2212.03191; the learning rate is our reading of a misprint."""

    def test_numbers(self):
        recipe = load_recipe("internvideo/cma_k400")
        training = recipe.training
        assert (recipe.batch_size, training["weight_decay"], training["ema_decay"]) == (64, 0.001, 0.9999)
        assert (training["num_train_epochs"], training["warmup_epochs"], training["learning_rate"]) == (5, 1, 5e-5)
        assert recipe.model.config == {"classifier_dropout": 0.9}
        assert training["evaluate_ema"] and recipe.data.clip.view == "finetuning"

    def test_rate_warms_up_for_an_epoch_and_falls_by_a_cosine(self):
        training = load_recipe("internvideo/cma_k400").training
        schedule, rate = SCHEDULES[training["schedule"]], training["learning_rate"]
        floors = training["warmup_learning_rate"] / rate, training["min_learning_rate"] / rate
        shares = [schedule(step, 500, 100, *floors) for step in (0, 100, 300, 500)]
        np.testing.assert_allclose(np.multiply(shares, rate), [1e-6, 5e-5, (5e-5 + 1e-6) / 2, 1e-6], rtol=1e-6)

    def test_gates_norms_and_the_video_token_are_not_decayed(self):
        recipe = load_recipe("internvideo/cma_k400")
        with torch.device("meta"):
            model = build_model(recipe.model, "abc")
        groups = parameter_groups(model, 5e-5, 1e-3, rule=recipe.training["decay_rule"])
        decay = {name: group["weight_decay"] for group in groups for name in group["names"]}
        heads = ("classifier.internvideo_mae", "classifier.layernorm", "classifier.uniformerv2")
        parts = (*heads, "internvideo.internvideo_mae.pooler_layernorm")
        assert {name for name in decay if "exchanges" not in name} == {
            *(f"{part}.{kind}" for part in parts for kind in ("weight", "bias")),
            "classifier.fusion",
            "internvideo.uniformerv2.video_embedding",
        }
        assert decay["internvideo.exchanges.0.video_tokens.mlp.fc1.weight"] == 1e-3
        spared = {name for name, value in decay.items() if value == 0}
        vectors = ("gate", "bias", "fusion", "video_embedding")
        assert spared == {name for name in decay if name.endswith(vectors) or "norm" in name}

    def test_it_runs_on_two_small_models(self, data, tmp_path):
        labels, sizes = dict(enumerate(load_labels("k400"))), {"num_hidden_layers": 2, "num_attention_heads": 2}
        for config in (
            InternVideoMAEConfig(**sizes, hidden_size=8, image_size=16, num_frames=4, id2label=labels),
            UniFormerV2Config(**sizes, hidden_size=8, image_size=16, num_frames=2, global_layers=[1], id2label=labels),
        ):
            kind = FAMILIES[config.model_type].models[AutoModelForVideoClassification]
            kind(config).save_pretrained(tmp_path / config.model_type)
            build_processor(config).save_pretrained(tmp_path / config.model_type)
        fuse_encoders(tmp_path / "internvideo_mae", tmp_path / "uniformerv2", tmp_path / "fused")
        changes = ["training.max_steps=1", "batch_size=4", "data.validation=null", "training.dataloader_num_workers=0"]
        done = train("internvideo/cma_k400", data, tmp_path / "fused", tmp_path / "run", *changes)
        assert done.returncode == 0, done.stderr
        assert weights(tmp_path / "run")["classifier.fusion"].shape == (1,)

    def test_recipes_for_two_inputs_are_for_the_fused_model(self):
        with pytest.raises(RecipeError, match="family internvideo alone"):
            load_recipe("videomae/finetune_base_k400", ["data.trunk_cache={folder: x}"])

    def test_keys_of_version_0_1_are_read(self):
        clip = {"sampler": "videomae_dense_train", "view": "finetuning"}
        old, new = (
            {**FUSED, "data": {**FUSED["data"], "clip": {**clip, **key}}}
            for key in (
                {"uniformerv2": {"sampler": "uniformerv2_train"}},
                {"inputs": {"uniformerv2": {"sampler": "uniformerv2_train"}}},
            )
        )
        assert parse_recipe(old) == parse_recipe(new)
        empty = {**FUSED, "data": {**FUSED["data"], "clip": {**clip, "uniformerv2": {}}}}
        assert parse_recipe(empty).data.clip.inputs == {}


def test_the_fused_model_can_be_asked_like_others(fused, data):
    video = str(next(data.glob("*.mp4")))
    done = run("classify", video, "--model", fused, "--json")
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)[0]["results"][0]
    for task in ("multi-view-video-classification", "video-classification"):
        best = pipeline(task, model=str(fused))(video, top_k=1)[0]
        assert best["label"] == expected["label"] and best["score"] == pytest.approx(expected["score"], abs=1e-5), task
    done = run("extract", video, "--model", fused, "--out", data / "features")
    assert done.returncode == 2 and "fused model" in done.stderr


def test_encoders_given_by_hand_make_the_same_folder(fused, tmp_path):
    names = ("internvideo_mae", "uniformerv2")
    model = fuse_encoders(*(fused.parent / name for name in names), tmp_path / "whole")
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "whole")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
