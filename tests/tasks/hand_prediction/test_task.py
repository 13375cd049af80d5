"""Hand predictors are trained, and evaluated as by hand: from a model, from a file, and on a list without hands."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.hand_prediction.drawn import TINY, way, write_predictor, write_videos
from tasks.workers import assert_equal_results

from internvideo_hf.auto import auto_class
from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.hand_prediction.prediction import labels_of_hands
from internvideo_hf.tasks.hand_prediction.task import start_at_mean
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

LEFT = tuple(labels_of_hands(["left"]))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_videos(root)
    return root


@pytest.fixture(scope="module")
def run(data) -> Path:
    changes = ["training.num_train_epochs=3", "training.warmup_epochs=0", "training.save_strategy=no"]
    recipe = load_recipe("ego4d/hand_prediction", [*TINY, *changes])
    return train(recipe, data, data / "run", quiet=True).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_predictor(tmp_path_factory.mktemp("model"), LEFT)


def score(root: Path, model: Path | None, *changes: str, **options) -> dict:
    protocol = load_protocol("ego4d/hand_prediction", ["data.list=hands_val.json", *changes])
    return evaluate(protocol, model, root, **{"device": "cpu", "workers": 0, "quiet": True, **options})


def test_a_training_names_the_hands_and_scores_the_validation_list(run, data):
    config = json.loads((run / "final/config.json").read_text())
    assert [config["id2label"][str(number)] for number in range(10)] == list(LEFT)
    assert config["architectures"] == ["InternVideoMAEForHandPrediction"] and "points_of_video" not in config
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [line for line in logged if "eval_left M.Disp" in line][-1]
    result = score(data, run / "final", report=data / "report")
    assert result["scores"] == pytest.approx(
        {"left M.Disp": last["eval_left M.Disp"], "left C.Disp": last["eval_left C.Disp"]}, abs=1e-3
    )
    ours, theirs = (
        json.loads((folder / "predictions.json").read_text()) for folder in (data / "report", run / "answers")
    )
    assert ours.keys() == theirs.keys() == {"4_1007", "5_1007"}
    assert ours["4_1007"] == pytest.approx(theirs["4_1007"], abs=1e-3)


def test_a_new_head_begins_at_the_mean_of_the_known_labels(model):
    predictor = auto_class("AutoModelForHandPrediction").from_pretrained(model)
    samples = [
        {"labels": torch.arange(10.0), "label_mask": torch.ones(10, dtype=torch.bool)},
        {"failure": "it cannot be read"},
        {"labels": torch.tensor([8.0] * 5 + [0.0] * 5), "label_mask": torch.tensor([True] * 5 + [False] * 5)},
    ]
    start_at_mean(predictor, samples)
    assert predictor.classifier.bias.tolist() == list(range(1, 11))  # a trained head stays
    with torch.no_grad():
        predictor.classifier.bias.zero_()
    start_at_mean(predictor, samples[1:2])
    assert not predictor.classifier.bias.any()
    start_at_mean(predictor, samples)
    assert predictor.classifier.bias.tolist() == [4, 4.5, 5, 5.5, 6, 5, 6, 7, 8, 9]


def test_scores_of_a_model_are_those_by_hand(model, data):
    result = score(data, model, "num_clips=2")
    predicted = (np.arange(1, 11).reshape(5, 2) + [5, 0]) * [64 / 42, 48 / 32]
    distances = np.array([np.hypot(*(way(number)[[8, 10, 12, 14, 16]] - predicted).T) for number in (4, 5)])
    assert result["scores"] == pytest.approx(
        {"left M.Disp": distances.mean(), "left C.Disp": distances[:, 4].mean()}, abs=1e-4
    )
    printed = table(result)
    assert "views   2 clips, mean of their points" in printed and "ego4d_hands {'seconds': 1}" in printed
    assert "mean displacement in pixels of the videos; smaller is better" in printed


def test_a_file_of_predictions_is_scored_without_a_model(model, data):
    result = score(data, model, report=data / "of_model")
    file = score(data, None, "data.hands.predictions=of_model/predictions.json")
    assert file["scores"] == pytest.approx(result["scores"]) and file["model"]["name"] == "no model"
    sums = {
        name: [2 * number for number in row]
        for name, row in json.loads((data / "of_model/predictions.json").read_text()).items()
    }
    (data / "sums.json").write_text(json.dumps(sums))
    of_sums = score(data, None, "data.hands.predictions=sums.json", "data.hands.predictions_views=2")
    assert of_sums["scores"] == pytest.approx(result["scores"])
    assert "hands   of sums.json, the sum of 2 views" in table(of_sums)
    (data / "fewer.json").write_text(json.dumps({"4_1007": [0.0] * 20}))
    with pytest.raises(ManifestError, match="1 of 2 clips of the list are missing, such as 5_1007"):
        score(data, None, "data.hands.predictions=fewer.json")
    with pytest.raises(RecipeError, match="Give no model"):
        score(data, model, "data.hands.predictions=sums.json")


def test_a_list_without_hands_gives_the_challenge_s_file_and_no_scores(model, data):
    content = json.loads((data / "hands_val.json").read_text())
    for entry in content["clips"]:
        (action,) = entry["frames"]
        entry["frames"] = [{"pre_45": {name: action["pre_45"][name] for name in ("frame", "clip_frame")}}]
    (data / "hands_test.json").write_text(json.dumps(content))
    result = score(data, model, "data.list=hands_test.json", report=data / "test")
    assert result["scores"] == {} and "none: no clip is annotated; --report has the predictions" in table(result)
    assert json.loads((data / "test/predictions.json").read_text()).keys() == {"4_1007", "5_1007"}


def test_a_hand_that_the_model_does_not_predict_is_refused(model, data):
    content = json.loads((data / "hands_val.json").read_text())
    content["clips"][1]["frames"][0]["pre_30"]["boxes"].append({"right_hand": [1, 2]})
    (data / "both.json").write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=r"predicts no right hand, which 1 clips of .*both.json show"):
        score(data, model, "data.list=both.json")


def test_the_last_of_two_clips_of_one_name_counts(model, data, caplog):
    content = json.loads((data / "hands_val.json").read_text())
    first = content["clips"][0]
    wrong = json.loads(json.dumps(first))
    wrong["frames"][0]["contact_frame"]["boxes"] = [{"left_hand": [60, 40]}]
    (data / "twice.json").write_text(json.dumps({**content, "clips": [wrong, *content["clips"]]}))
    assert score(data, model, "data.list=twice.json")["scores"] == pytest.approx(score(data, model)["scores"])


def test_an_unreadable_video_is_listed_and_left_out(model, data, tmp_path):
    shutil.copytree(data / "clips", tmp_path / "clips")
    shutil.copy(data / "hands_val.json", tmp_path)
    (tmp_path / "clips/clip-5.mp4").write_bytes(b"no video")
    result = score(tmp_path, model, max_damaged=0.9)
    assert len(result["damaged"]) == 1 and "clip-5.mp4" in result["damaged"][0]["cause"]
    whole = score(data, model)
    assert result["scores"]["left M.Disp"] != whole["scores"]["left M.Disp"]
    assert (result["model"]["scored_clips"], whole["model"]["scored_clips"]) == (1, 2)
    assert "of the 1 clips that could be read" in table(result) and "could be read" not in table(whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("num_crops=3", "num_crops must be 1"),
        ("data.layout=csv", "data.layout"),
        ("data.hands.predictions_views=0", "predictions_views is 0"),
        ("data.labels=k400", "data.labels changes nothing"),
        ("family=viclip", "This protocol is for viclip"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, data, change, words):
    with pytest.raises(RecipeError, match=words):
        score(data, model, change)


def test_a_model_of_another_kind_is_refused(data, tmp_path):
    write_predictor(tmp_path / "model", LEFT)
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(
        json.dumps({**config, "architectures": ["InternVideoMAEForVideoClassification"]})
    )
    with pytest.raises(RecipeError, match="predicts no hands"):
        score(data, tmp_path / "model")


def test_the_recipe_has_the_published_numbers():
    recipe = load_recipe("ego4d/hand_prediction")
    training, hands = recipe.training, recipe.data.hands
    assert (training["learning_rate"], training["weight_decay"], training["layer_decay"]) == (1e-3, 0.05, 1)
    assert (training["num_train_epochs"], training["warmup_epochs"], recipe.batch_size) == (30, 5, 16)
    assert (hands.crop_area, hands.rand_augment, hands.erasing) == ([0.9, 1.0], True, 0.25)


def test_workers_make_the_same_result(model, data, tmp_path, engine):
    assert_equal_results(partial(score, data, model, "num_clips=2"), tmp_path, engine)
