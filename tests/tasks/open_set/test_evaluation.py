"""`evaluate open_set/...`: scores by hand for each method, published ones beside, and lists that are refused."""

import csv
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from program import run
from tasks.open_set.drawn import HERE
from tasks.open_set.test_calibration import energies
from tasks.workers import assert_equal_results

from internvideo_hf.evaluation.protocols import load_protocol, protocol_names
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference.open_set.methods import METHODS
from internvideo_hf.inference.open_set.scorer import OpenSetScorer
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.open_set.calibration import calibrate
from internvideo_hf.tasks.open_set.evaluation import Seen, score
from internvideo_hf.tasks.open_set.metrics import ranking_scores

CUSTOM = "open_set/custom"


def test_scores_are_those_by_hand(known_model, known_data):
    result = evaluate(load_protocol(CUSTOM, ["open_set.method=energy"]), known_model, known_data, **HERE)
    known, unknown = (energies(known_model, known_data, numbers) for numbers in (range(6, 9), range(9, 12)))
    threshold = energies(known_model, known_data, range(6)).max()
    found = result["scores"]
    assert {name: found[name] for name in ("AUROC", "AUPR", "FPR95")} == pytest.approx(ranking_scores(known, unknown))
    assert found["known-kept"] == pytest.approx(100 * (known <= threshold).mean())
    assert found["unknown-found"] == pytest.approx(100 * (unknown > threshold).mean())
    assert found["AUC"] == pytest.approx((found["known-kept"] + found["unknown-found"]) / 2)
    assert result["model"]["threshold"] == pytest.approx(threshold, rel=1e-6)
    assert set(result["data"]["files"]) == {"test.csv", "unknown.csv", "val.csv"} and result["data"]["videos"] == 12


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"openmax", "ensemble", "energy"}))
def test_every_method_evaluates(evidential_model, known_data, method):
    learned = "{steps: 3}" if METHODS[method].learns else "{}"
    options = "{rate: 0.5, passes: 3}" if method == "mc_dropout" else learned
    changes = [f"open_set.method={method}", f"open_set.options={options}", "num_crops=3"]
    result = evaluate(load_protocol(CUSTOM, changes), evidential_model, known_data, **HERE)
    assert all(0 <= value <= 100 for value in result["scores"].values())
    if method == "evidential":
        assert result["model"]["options"] == {"merge": "score", "evidence": "softplus"}
        assert "1 clips x 3 crops, mean of their logits, then the score" in table(result)


def test_an_ensemble_evaluates(known_model, evidential_model, known_data):
    changes = ["open_set.method=ensemble", f"open_set.options={{members: [{evidential_model}]}}"]
    result = evaluate(load_protocol(CUSTOM, changes), known_model, known_data, **HERE)
    assert result["scores"]["AUROC"] > 0


def test_a_calibrated_scorer_gives_the_same(known_model, known_data, tmp_path):
    calibrate(known_model, known_data / "val.csv", tmp_path / "scorer", method="energy", **HERE)
    changes = ["data.calibration=null", f"open_set.scorer={tmp_path / 'scorer'}"]
    result = evaluate(load_protocol(CUSTOM, changes), known_model, known_data, **HERE)
    fitted = evaluate(load_protocol(CUSTOM, ["open_set.method=energy"]), known_model, known_data, **HERE)
    assert result["scores"] == fitted["scores"] and result["model"]["method"] == "energy"
    same = load_protocol(CUSTOM, [*changes, "open_set.method=energy", "open_set.options={temperature: 1.0}"])
    assert evaluate(same, known_model, known_data, **HERE)["scores"] == fitted["scores"]
    with pytest.raises(RecipeError, match="open_set has method=max_logit, and the scorer .* with method=energy. Set"):
        evaluate(load_protocol(CUSTOM, [*changes, "open_set.method=max_logit"]), known_model, known_data, **HERE)
    with pytest.raises(ValueError, match=r"fitted on 1x1 views .* got 1x3"):
        evaluate(load_protocol(CUSTOM, [*changes, "num_crops=3"]), known_model, known_data, **HERE)


def test_the_command_prints_published_scores_and_writes_a_report(known_model, known_data, tmp_path):
    lists = ["data.list=test.csv", "data.unknown=unknown.csv", "data.calibration=val.csv"]
    options = (
        "--model",
        known_model,
        "--data-root",
        known_data,
        "--workers",
        0,
        "-q",
        "--report",
        tmp_path / "report",
    )
    done = run("evaluate", "open_set/ucf101_hmdb51", *lists, *options)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  paper")]
    assert line.split()[1:3] == ["97.89", "85.48"]
    assert "known classes that are rejected most" in done.stdout and "above" in done.stdout
    with (tmp_path / "report/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["list"] for row in rows] == ["known"] * 3 + ["unknown"] * 3
    assert all(row["correct"] == row["unknown"] for row in rows[3:]) and rows[0]["label"] == "runs"
    assert (tmp_path / "report/scores.png").stat().st_size > 1000


def test_published_protocols_are_as_published():
    assert [name for name in protocol_names() if name.startswith("open_set/")] == [
        "open_set/custom",
        "open_set/ucf101_hmdb51",
        "open_set/ucf101_mit",
    ]
    for name, auc in (("ucf101_hmdb51", 85.48), ("ucf101_mit", 91.85)):
        protocol = load_protocol(f"open_set/{name}")
        assert protocol.published[0].scores == {"top-1": 97.89, "AUC": auc}
        assert (protocol.num_clips, protocol.num_crops) == (1, 3)


def test_unreadable_videos_count_as_wrong(known_model, known_data, tmp_path):
    data = shutil.copytree(known_data, tmp_path / "data")
    for number in (1, 6, 9):
        (data / f"clip{number:02d}.mp4").write_bytes(b"noise")
    result = evaluate(load_protocol(CUSTOM), known_model, data, max_damaged=0.5, report=tmp_path / "report", **HERE)
    assert len(result["damaged"]) == 3 and result["scores"]["known-kept"] <= 200 / 3
    assert "unreadable" in (tmp_path / "report/answers.csv").read_text()


def test_each_score_by_hand():
    known = Seen(np.array([0.1, 0.2, 0.9, np.nan]), np.array([0, 1, 1, -1]), np.array([0.9, 0.9, 0.3, np.nan]))
    unknown = Seen(np.array([0.8, 0.15, np.nan]), np.array([0, 1, -1]), np.array([0.5, 0.5, np.nan]))
    scorer = OpenSetScorer("max_softmax")
    scorer.threshold = 0.5
    found = score(known, unknown, np.array([0, 1, 1, 0]), np.array([3, 3, 4]), scorer, 2)
    assert found["top-1"] == 75 and found["known-kept"] == 50 and found["unknown-found"] == pytest.approx(100 / 3)
    assert found["AUC"] == pytest.approx((50 + 100 / 3) / 2)
    # Unknown 0.8 lies above 2 of 4 known ones, 0.15 above 1, the unreadable one above none.
    assert found["AUROC"] == pytest.approx(100 * 3 / 12)
    assert found["ECE"] == pytest.approx(100 * (0.2 + 0.7) / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.unknown=null"], "data.unknown is missing"),
        (["data.calibration=null"], "Set one of data.calibration, .* and open_set.scorer"),
        (["open_set.scorer=x"], "Set one of"),
        (["open_set.method=enrgy"], "open_set: method: got 'enrgy'.*Did you mean energy"),
        (["open_set.methods=energy"], "Did you mean .*method"),
        (["open_set.options={rate: 1}"], "Unknown option rate for the method max_softmax"),
        (["open_set.accepted=95"], "accepted=95"),
    ],
)
def test_settings_that_do_not_suit_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_protocol(CUSTOM, changes)


@pytest.mark.parametrize(
    ("list_name", "line", "message"),
    [
        ("unknown.csv", "clip11.mp4,runs", "has videos of 1 known classes, such as 'runs'"),
        ("unknown.csv", "clip06.mp4,swims", "clip06.mp4 is in the lists of known and of unknown videos"),
        ("val.csv", "clip07.mp4,jumps", "clip07.mp4 is in the lists of known and of calibration videos"),
        ("test.csv", "clip09.mp4,swims", "'swims' is none of the 3 class names"),
        ("unknown.csv", None, "no row is left|holds no|empty"),
    ],
)
def test_lists_that_overlap_are_refused(known_model, known_data, tmp_path, list_name, line, message):
    for name in ("val.csv", "test.csv", "unknown.csv"):
        (tmp_path / name).write_text((known_data / name).read_text())
    text = "" if line is None else (tmp_path / list_name).read_text() + f"{line}\n"
    (tmp_path / list_name).write_text(text)
    with pytest.raises(ValueError, match=message):
        evaluate(load_protocol(CUSTOM), known_model, tmp_path, **HERE)


def test_unknown_videos_need_no_labels(known_model, known_data, tmp_path):
    for name in ("val.csv", "test.csv"):
        lines = (known_data / name).read_text().splitlines()
        (tmp_path / name).write_text("".join(f"{known_data}/{line}\n" for line in lines))
    (tmp_path / "unknown.csv").write_text(f"video\n{known_data}/clip09.mp4\n{known_data}/clip10.mp4\n")
    result = evaluate(load_protocol(CUSTOM), known_model, tmp_path, **HERE)
    assert np.isfinite(list(result["scores"].values())).all() and torch.is_grad_enabled()


def test_workers_make_the_same_result(known_model, known_data, tmp_path, engine):
    protocol = load_protocol(CUSTOM, ["open_set.method=energy"])
    options = {name: value for name, value in HERE.items() if name != "batch_size"}
    assert_equal_results(partial(evaluate, protocol, known_model, known_data, **options), tmp_path, engine)
