"""`internvideo probe`."""

import json

import pytest
from program import assert_refused, run
from stock_models import write_stock


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_stock("videomae", tmp_path_factory.mktemp("videomae"))


@pytest.fixture(scope="module")
def clips(drawn):
    """Return a list of six drawn clips of two classes."""
    videos = sorted((drawn[0] / "test").glob("*.mp4"))
    path = drawn[0] / "two_classes.csv"
    path.write_text(
        "\n".join(["video,label", *(f"test/{one.name},{'ab'[n % 2]}" for n, one in enumerate(videos)), ""])
    )
    return path


def test_it_prints_a_table_and_writes_a_result(clips, model, tmp_path):
    command = ("probe", clips, "--model", model, "--device", "cpu", "--workers", 0, "--quiet")
    changes = ("--kind", "linear", "--shots", "1", "--seeds", 2, "--out", tmp_path / "out")
    done = run(*command, *changes)
    assert done.returncode == 0, done.stderr
    assert "clips a class" in done.stdout
    assert "95 % confidence interval" in done.stdout
    as_json = run(*command, *changes, "--json")
    assert json.loads(as_json.stdout) == json.loads((tmp_path / "out/result.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shots", "0"], "--shots 0: expected numbers of clips"),
        (["--shots", "1,x"], "--shots 1,x"),
        (["--kind", "tree"], "tree"),
        (["epochs=3"], "epochs"),
        (["--shots", "1000"], "1000 clips of each class are asked for"),
        (["--validation", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(clips, model, tmp_path, arguments, words):
    refused = run("probe", clips, *arguments, "--model", model, "--out", tmp_path / "out", "--quiet")
    assert_refused(refused, words)
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_model_and_folder_must_be_named(clips, tmp_path):
    assert_refused(run("probe", clips), "by --model", "--out FOLDER")
    head = run("probe", clips, "--model", "demo-actionformer", "--out", tmp_path / "o", "--quiet")
    assert_refused(head, "is a head on features, not an encoder of videos")


def test_too_many_unreadable_clips_end_it_in_one_line_without_a_name_of_a_class(clips, model, tmp_path):
    rows = clips.read_text().splitlines()
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join([*rows, "test/gone.mp4,a", ""]))
    refused = run("probe", listed, "--data-root", clips.parent, "--model", model, "--out", tmp_path / "o", "--quiet")
    assert_refused(refused, "internvideo: 1 of the first ")
