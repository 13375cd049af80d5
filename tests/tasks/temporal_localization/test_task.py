"""Heads on features learn from drawn features, name where those came from, and are evaluated as by hand."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from demo.ports import free_port
from safetensors.torch import load_file
from tasks.temporal_localization.drawn import TINY, write_features
from tasks.workers import assert_equal_results

from internvideo_hf.auto import auto_class
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.temporal_localization.data import Sample
from internvideo_hf.tasks.temporal_localization.task import TASK, collate, table_of
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

SHORT = [*TINY, "training.warmup_epochs=1", "training.learning_rate=5e-3", "training.ema_decay=0.8"]
CUSTOM = "temporal_localization/custom"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_features(root, 24)
    return root


@pytest.fixture(scope="module")
def run(data) -> Path:
    recipe = load_recipe(
        CUSTOM, [*SHORT, "training.num_train_epochs=12", "training.eval_strategy=no", "training.save_strategy=no"]
    )
    return train(recipe, data, data / "run", quiet=True).parent


def score(root: Path, model: Path, *changes: str, **options) -> dict:
    return evaluate(load_protocol(CUSTOM, changes), model, root, device="cpu", workers=0, quiet=True, **options)


def test_a_batch_keeps_lengths_and_segments_apart():
    grid = FeatureGrid(4, 16, 25)
    samples = [
        Sample("a", torch.ones(2, 3), torch.tensor([[0.0, 1.0]]), torch.tensor([5]), grid, 9.0),
        Sample("b", torch.ones(4, 3), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), grid),
    ]
    batch = collate(samples, keep_grids=True)
    assert batch["features"].sum(dim=(1, 2)).tolist() == [6, 12] and batch["features"].shape == (2, 4, 3)
    assert batch["attention_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert [len(label["segments"]) for label in batch["labels"]] == [1, 0] and batch["videos"] == ["a", "b"]
    assert batch["grids"][0].tolist() == [4, 16, 25, 9] and batch["grids"][1, 3].isnan()
    assert "grids" not in collate(samples)
    assert TASK.training.make_collator(training=True)(samples).keys() == collate(samples).keys()
    assert len(table_of([], []).scores) == 0


def test_a_head_learns_and_names_its_features(run, data):
    config = json.loads((run / "final/config.json").read_text())
    assert config["features"] == {"encoder": None, "window": 10, "stride": 5, "fps": 10}
    files = ["README.md", "config.json", "internvideo_loader.py", "model.safetensors"]
    assert sorted(path.name for path in (run / "final").iterdir()) == files
    assert "16 videos of the list `annotations.json`" in (run / "final/README.md").read_text()
    result = score(data, run / "final", report=data / "report")
    assert result["scores"]["mAP@0.50"] > 50 and result["data"]["videos"] == 8
    printed = table(result)
    assert "windows of 10, stride 5" in printed and "mAP@0.30" not in printed and "mAP@0.75" in printed
    assert len((data / "report/answers.csv").read_text().splitlines()) > 16


def test_batches_change_no_score(run, data):
    alone = score(data, run / "final", batch_size=1)["scores"]
    assert score(data, run / "final", batch_size=5)["scores"] == pytest.approx(alone, abs=1e-3)


@pytest.mark.slow
def test_the_training_scores_as_the_evaluation_does(data, tmp_path):
    final = train(load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=3"]), data, tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    last = [line for line in logged if "eval_mAP" in line][-1]
    found = score(data, final)["scores"]
    assert {name: last[f"eval_{name}"] for name in found} == pytest.approx(found, abs=1e-3)
    assert (tmp_path / "run/answers/detections.json").is_file()


@pytest.mark.slow
def test_two_processes_score_as_one_does(data, tmp_path):
    options = [*SHORT, "training.num_train_epochs=2", "batch_size=4"]
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"of{processes}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-port", str(free_port()), "-m", "internvideo_hf.cli", "train", CUSTOM, *options]
        command += ["--data-root", str(data), "--output-dir", str(out), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
        logs.append([line["eval_mAP@0.50"] for line in lines if "eval_mAP" in line])
        assert (out / "answers/detections.json").is_file()
    assert logs[1] == pytest.approx(logs[0], abs=0.5) and len(logs[0]) == 2


@pytest.mark.slow
def test_a_stopped_training_ends_with_the_same_weights(data, tmp_path):
    recipe = load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=3", "training.save_total_limit=5"])
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(recipe, data, whole, quiet=True)
    shutil.copytree(whole, resumed, ignore=shutil.ignore_patterns("final", "answers", "checkpoint-6"))
    train(recipe, data, resumed, quiet=True)
    one, other = (load_file(run / "final/model.safetensors") for run in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    # The running number of positive points, too, which the original loses.
    start = load_recipe(CUSTOM, SHORT).model.config["init_loss_normalizer"]
    assert one["loss_normalizer"] != start and "loss_normalizer" in other


def test_segments_of_one_class_are_named_by_scores_of_the_video(data, tmp_path):
    changes = [*SHORT, "training.num_train_epochs=3", "data.features.class_agnostic=true", "data.validation=null"]
    final = train(load_recipe(CUSTOM, changes), data, tmp_path / "run", quiet=True)
    model = auto_class("AutoModelForTemporalLocalization").from_pretrained(final)
    assert model.config.num_labels == 1
    with pytest.raises(RecipeError, match="knows one class, annotations.json 2. Set data.class_scores"):
        score(data, final)
    agnostic = score(data, final, "data.features.class_agnostic=true")["scores"]["mAP"]
    scores = {f"video{number:02d}": [[0.4, 0.6]] for number in range(24)}
    (data / "scores.json").write_text(json.dumps({"results": scores}))
    named = score(data, final, "data.class_scores=scores.json", "fusion.classes=2", report=tmp_path / "report")
    found = json.loads((tmp_path / "report/detections.json").read_text())["results"]["video16"]
    by_class = {name: [row["score"] for row in found if row["label"] == name] for name in ("jump", "run")}
    assert np.array(by_class["jump"]) / np.array(by_class["run"]) == pytest.approx((0.4 / 0.6) ** 0.5, rel=1e-4)
    assert 0 <= named["scores"]["mAP"] <= 100 and 0 <= agnostic <= 100


def test_a_video_without_features_counts_as_missed(run, data, tmp_path):
    for file in (data / "features").iterdir():
        (tmp_path / "features").mkdir(exist_ok=True)
        if file.stem != "video23":
            (tmp_path / "features" / file.name).symlink_to(file)
    (tmp_path / "annotations.json").write_text((data / "annotations.json").read_text())
    result = score(tmp_path, run / "final", max_damaged=0.5)
    assert [entry["video"] for entry in result["damaged"]] == ["video23"]
    assert result["scores"]["mAP@0.50"] <= score(data, run / "final")["scores"]["mAP@0.50"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data.features.stride=4", "data.features.num_frames=10"],
            "have stride=4, and the model was trained on stride=5",
        ),
        (["data.features.thresholds=[2]"], "expected overlaps above 0"),
        (["fusion={classes: 0}"], "classes=0"),
        (["fusion={number: 2}"], "number"),
        (["data.layout=msrvtt"], "data.layout changes nothing"),
        (["data.features.subset=testing"], "subset='testing' holds no videos"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, run, data):
    with pytest.raises(RecipeError, match=message):
        score(data, run / "final", *changes)


def test_recipes_have_features_or_clips(data):
    with pytest.raises(RecipeError, match="data.features must be given"):
        load_recipe(CUSTOM, ["data.features=null"])
    with pytest.raises(RecipeError, match="data.mixup changes nothing in temporal_localization"):
        load_recipe(CUSTOM, ["data.mixup={mixup_alpha: 0.8}"])
    with pytest.raises(RecipeError, match="data.features changes nothing in classification"):
        load_recipe("videomae/finetune_base", ["data.features={}"])
    with pytest.raises(RecipeError, match="data.clip must be given"):
        load_recipe("videomae/finetune_base", ["data.clip=null"])
    with pytest.raises(RecipeError, match="have 4 channels, and the model takes 5"):
        train(load_recipe(CUSTOM, [*SHORT, "model.config.feature_size=5"]), data, data / "bad", quiet=True)
    with pytest.raises(RecipeError, match="reads features, no pixels"):
        train(load_recipe(CUSTOM, [*SHORT, "model.processor={num_frames: 4}"]), data, data / "worse", quiet=True)


def test_workers_make_the_same_result(run, data, tmp_path, engine):
    result = assert_equal_results(partial(score, data, run / "final"), tmp_path, engine)
    assert result["scores"]["mAP"] > 0


def test_workers_name_videos_without_features(run, data, tmp_path, engine):
    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("run"))
    gone = next(iter(TASK.evaluation.read(load_protocol(CUSTOM), data, str(run / "final")).videos))["video"]
    next((tmp_path / "data/features").rglob(f"*{gone}*.npy")).unlink()
    again = partial(score, tmp_path / "data", run / "final", max_damaged=0.5)
    result = assert_equal_results(again, tmp_path, engine)
    assert [entry["video"] for entry in result["damaged"]] == [gone] and "no features" in result["damaged"][0]["cause"]
