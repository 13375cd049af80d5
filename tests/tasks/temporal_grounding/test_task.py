"""Heads learn which stretch a sentence asks for, name their encoders, and are evaluated as by hand."""

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from demo.ports import free_port
from tasks.temporal_grounding.asked import TINY, write_asked
from tasks.temporal_grounding.test_queries import ego4d, query
from tasks.workers import assert_equal_results

from internvideo_hf import VSLNetForTemporalGrounding, demo_path
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

CUSTOM = "temporal_grounding/custom"
SHORT = [*TINY, "batch_size=16", "training.per_device_train_batch_size=16", "training.learning_rate=5e-3"]
RULE = ["data.queries.stride=5", "data.queries.num_frames=10", "data.queries.fps=10"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("asked")
    write_asked(root, 36)
    return root


@pytest.fixture(scope="module")
def run(data) -> Path:
    lengths = ["training.num_train_epochs=25", "training.save_strategy=no", "training.eval_strategy=no"]
    return train(load_recipe(CUSTOM, [*SHORT, *lengths]), data, data / "run", quiet=True).parent


def score(root: Path, model: Path | None, *changes: str, protocol: str = CUSTOM, **options) -> dict:
    loaded = load_protocol(protocol, changes)
    return evaluate(loaded, model, root, device="cpu", workers=0, quiet=True, **options)


def test_a_head_learns_and_names_its_encoders(run, data):
    config = json.loads((run / "final/config.json").read_text())
    assert config["features"] == {"encoder": None, "window": 10, "stride": 5, "fps": 10}
    assert config["text_encoder"] == "demo-mm" and config["text_revision"].startswith("sha256:")
    result = score(data, run / "final", report=data / "report")
    # Half of the sentences ask for the other stretch of a video: a head that does not read them has 50 at most.
    assert result["scores"]["R1@0.5"] > 75 and result["data"]["videos"] == 12 and result["data"]["texts"] == 24
    printed = table(result)
    assert "windows of 10, stride 5" in printed and "demo-mm" in printed and "R5@0.3" in printed
    assert "whole video" in (data / "report/summary.txt").read_text()
    # The file of answers gives the same scores without the model.
    (data / "predictions.json").write_text((data / "report/predictions.json").read_text())
    again = score(data, None, "data.queries.predictions=predictions.json")
    assert again["scores"] == pytest.approx(result["scores"], abs=1e-3) and "predictions.json" in table(again)


def test_batches_change_no_score_and_scores_are_those_of_the_model_by_hand(run, data):
    alone = score(data, run / "final", batch_size=1, report=data / "alone")["scores"]
    assert score(data, run / "final", batch_size=7)["scores"] == pytest.approx(alone, abs=1e-3)
    with (data / "alone/answers.csv").open() as file:
        best = [line for line in csv.DictReader(file) if line["rank"] == "1"]
    found = np.array([[float(line[name]) for name in ("start", "end", "true_start", "true_end")] for line in best])
    shared = (np.minimum(found[:, 1], found[:, 3]) - np.maximum(found[:, 0], found[:, 2])).clip(min=0)
    overlap = shared / (np.maximum(found[:, 1], found[:, 3]) - np.minimum(found[:, 0], found[:, 2]))
    assert alone["R1@0.5"] == pytest.approx(100 * (overlap > 0.5).mean())


def test_the_training_scores_as_the_evaluation_does(data, tmp_path):
    final = train(load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=2"]), data, tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    last = [line for line in logged if "eval_R1@0.5" in line][-1]
    assert {"eval_span_loss", "eval_highlight_loss"} <= last.keys()
    found = score(data, final)["scores"]
    assert {name: last[f"eval_{name}"] for name in found} == pytest.approx(found, abs=1e-3)
    assert (tmp_path / "run/answers/predictions.json").is_file()


@pytest.mark.slow
def test_two_processes_score_as_one_does(data, tmp_path):
    options = [*SHORT, "training.num_train_epochs=2", "batch_size=8", "training.per_device_eval_batch_size=5"]
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"of{processes}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-port", str(free_port()), "-m", "internvideo_hf.cli", "train", CUSTOM, *options]
        command += ["--data-root", str(data), "--output-dir", str(out), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
        logs.append([line["eval_mIoU"] for line in lines if "eval_mIoU" in line])
    assert logs[1] == pytest.approx(logs[0], abs=0.5) and len(logs[0]) == 2


def test_queries_of_ego4d_are_scored_and_answered(run, tmp_path):
    content = ego4d(query("a red square", 2.0, 4.0), query("a blue square", 3.0, 3.0), query(None), clip_uid="c1")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "features").mkdir()
    (tmp_path / "annotations/nlq_val.json").write_text(json.dumps(content))
    np.save(tmp_path / "features/v1.npy", np.random.default_rng(0).normal(size=(1100, 4)).astype(np.float32))
    found = score(tmp_path, run / "final", *RULE, protocol="ego4d/language_queries", report=tmp_path / "report")
    assert found["data"]["texts"] == 3 and found["data"]["videos"] == 1
    results = json.loads((tmp_path / "report/predictions.json").read_text())["results"]
    assert [entry["query_idx"] for entry in results] == [0, 1, 0]
    assert all(0 <= start < end <= 480 for entry in results for start, end in entry["predicted_times"])
    # Files of the challenge come in without a model: two of three are right, one cannot be.
    for entry in results:
        entry["predicted_times"] = [[2.0, 4.0], [470.0, 479.0]]
    (tmp_path / "mine.json").write_text(json.dumps({"version": "1.0", "results": results}))
    mine = "data.queries.predictions=mine.json"
    scores = score(tmp_path, None, mine, protocol="ego4d/language_queries")["scores"]
    assert (scores["R1@0.5"], scores["R5@0.5"]) == (pytest.approx(100 / 3), pytest.approx(200 / 3))
    (tmp_path / "mine.json").write_text(json.dumps({"version": "1.0", "results": results[:1]}))
    assert score(tmp_path, None, mine, protocol="ego4d/language_queries")["scores"]["R1@0.5"] == pytest.approx(100 / 3)
    released = score(tmp_path, None, mine, "as_published=true", protocol="ego4d/language_queries")
    assert released["scores"]["R1@0.5"] == 100


def test_a_test_set_has_answers_and_no_scores(run, data, tmp_path):
    (tmp_path / "features").symlink_to(data / "features")
    (tmp_path / "val.csv").write_text("video,query\nvideo01.mp4,a red square\n")
    result = score(tmp_path, run / "final", report=tmp_path / "report")
    assert result["scores"] == {} and "nothing is scored" in (tmp_path / "report/summary.txt").read_text()
    assert table(result)


def test_a_video_without_features_counts_as_missed(run, data, tmp_path):
    (tmp_path / "features").symlink_to(data / "features")
    (tmp_path / "val.csv").write_text((data / "val.csv").read_text() + "videos/gone.mp4,a red square,1,2\n")
    result = score(tmp_path, run / "final", max_damaged=0.5)
    assert [entry["video"] for entry in result["damaged"]] == ["gone"]
    assert result["scores"]["R1@0.5"] == pytest.approx(score(data, run / "final")["scores"]["R1@0.5"] * 24 / 25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data.queries.stride=4", "data.queries.num_frames=10"],
            "have stride=4, and the model was trained on stride=5",
        ),
        (["data.queries.thresholds=[1]"], "expected overlaps from 0 to below 1"),
        (["data.queries.ranks=[0]"], "expected numbers of answers, 1 or more"),
        (["data.queries.iou_threshold=0"], "expected an overlap above 0"),
        (["data.layout=msrvtt"], "data.layout changes nothing"),
        (["data.features={}"], "data.features changes nothing in temporal_grounding"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, run, data):
    with pytest.raises(RecipeError, match=message):
        score(data, run / "final", *changes)


def test_other_models_and_recipes_are_refused(run, data, tmp_path):
    with pytest.raises(RecipeError, match="finds no sentences"):
        score(data, demo_path("demo-mm"))
    with pytest.raises(RecipeError, match="data.queries must be given"):
        load_recipe(CUSTOM, ["data.queries=null"])
    with pytest.raises(RecipeError, match="data.features changes nothing in temporal_grounding"):
        load_recipe(CUSTOM, ["data.features={}"])
    with pytest.raises(RecipeError, match="have 4 channels, and the model takes 5: set model.config.video_size=4"):
        train(load_recipe(CUSTOM, [*SHORT, "model.config.video_size=5"]), data, tmp_path / "a", quiet=True)
    with pytest.raises(RecipeError, match="have 96 channels, and the model takes 5: set model.config.text_size=96"):
        train(load_recipe(CUSTOM, [*SHORT, "model.config.text_size=5"]), data, tmp_path / "b", quiet=True)
    with pytest.raises(RecipeError, match="Set data.queries.text_encoder"):
        changes = ["data.queries.text_encoder=null", "data.queries.encoder=demo-classifier"]
        train(load_recipe(CUSTOM, [*SHORT, *changes]), data, tmp_path / "c", quiet=True)
    with pytest.raises(RecipeError, match="data.labels and data.layout change nothing"):
        train(load_recipe(CUSTOM, [*SHORT, "data.labels=k400"]), data, tmp_path / "d", quiet=True)
    assert VSLNetForTemporalGrounding.from_pretrained(run / "final").config.text_size == 96


def test_workers_make_the_same_result(run, data, tmp_path, engine):
    result = assert_equal_results(partial(score, data, run / "final"), tmp_path, engine)
    assert result["scores"]["mIoU"] > 0
