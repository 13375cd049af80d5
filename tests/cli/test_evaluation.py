"""`evaluate`: lists and refused options; its results are tested in tests/evaluation."""

import pytest
from program import run


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
    assert "(default: classification/custom)" in words and "clips (views, windows) per forward pass" in words


def test_ensembles_are_listed():
    assert "ensemble/internvideo_t" in run("evaluate", "--list").stdout


def test_all_protocols_are_listed():
    listed = run("evaluate", "--list")
    assert listed.returncode == 0
    assert "retrieval/vatex_finetuned" in listed.stdout and "zero_shot/viclip_k700" in listed.stdout
