"""`evaluate`: lists and refused options; its results are tested in tests/evaluation."""

import importlib.util

import pytest
from program import assert_refused, run
from tasks.action_detection.small import write_rt_detr
from tasks.object_detection.state_changes import write_drawn, write_scod


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["internvideo_d", "--model", "x"], "--ensemble"),
        (["retrieval/msrvtt", "--ensemble", "x"], "leave out --ensemble"),
        (["internvideo_d", "--ensemble", "nowhere"], "No model 'nowhere'. Expected a folder that"),
        (["internvideo_d", "--ensemble", "x", "--model", "y"], "each member"),
        (["retrieval/msrvtt", "--model", "x", "--scores", "y"], "--scores"),
        (["retrieval/msrvtt"], "Give --model, or members of an ensemble by --ensemble"),
        (["data.list=nowhere.csv", "--model", "demo-classifier"], "nowhere.csv"),
        (["--model", "demo-classifier"], "val.csv"),
        (
            ["data.list=nowhere.csv", "--model", "demo-mm"],
            "demo-mm is not a classifier: it holds an InternVideoMMModel",
        ),
        (["data.lists=x.csv", "--model", "demo-classifier"], "Did you mean data.list"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message):
    done = run("evaluate", *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_file_of_predictions_needs_no_model(tmp_path):
    (tmp_path / "val.csv").write_text("a,1,0,0,0.5,1,run,0\na,1,0.5,0,1,1,sit,1\n")
    (tmp_path / "found.csv").write_text("a,1,0,0,0.5,1,1,0.9\na,1,0,0,0.5,1,sit,0.8\n")
    arguments = ["action_detection/custom", "data.boxes.predictions=found.csv", "--data-root", tmp_path]
    done = run("evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    assert "boxes   of found.csv" in done.stdout and "50.00" in done.stdout
    refused = run("evaluate", *arguments, "--model", "demo-classifier")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_help_names_the_protocol_of_own_lists():
    words = " ".join(run("evaluate", "--help").stdout.split())
    assert all(f"ego4d/{name}" in words for name in ("moment_queries", "language_queries", "short_term_anticipation"))
    assert "(default: classification/custom)" in words and "clips (views, windows) per forward pass" in words


def test_ensembles_are_listed():
    assert "ensemble/internvideo_t" in run("evaluate", "--list").stdout


def test_all_protocols_are_listed():
    listed = run("evaluate", "--list")
    assert listed.returncode == 0
    assert "retrieval/vatex_finetuned" in listed.stdout and "zero_shot/viclip_k700" in listed.stdout


@pytest.mark.parametrize(
    ("beside", "named"),
    [(["--gpus", 2], "--gpus"), (["retrieval/msrvtt"], "protocol"), (["--model", "x", "-q"], "--model, --quiet")],
)
def test_a_list_of_protocols_takes_nothing_beside_it(beside, named):
    refused = run("evaluate", "--list", *beside)
    assert_refused(refused, f"--list is asked for alone. Leave out {named}.")
    assert not refused.stdout


def test_a_detector_of_transformers_is_taken_and_another_model_refused(tmp_path):
    write_rt_detr(tmp_path / "detector")
    write_scod(tmp_path / "annotations/fho_scod_val.json", write_drawn(tmp_path, 1))
    options = [
        "ego4d/state_change_detection",
        "data.frames.folder=frames",
        "--data-root",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    result = run("evaluate", *options, "--model", str(tmp_path / "detector"), "--workers", "0", "--quiet")
    if importlib.util.find_spec("pycocotools") is None:
        assert_refused(result, "Metrics of boxes come with the extra [detection]")
    else:
        assert result.returncode == 0 and "3 objects in 3 annotated frames" in result.stdout
    assert_refused(run("evaluate", *options, "--model", "demo-classifier"), "is not a detector of objects")
