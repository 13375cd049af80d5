"""`internvideo evaluate`: damaged videos never correct, workers, mistakes, atomic files."""

import json
from pathlib import Path

import pytest
from program import run
from tasks.lists import CLASSES, HERE, evaluate, write_lists


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder of short videos and lists in published layouts."""
    return write_lists(tmp_path_factory.mktemp("data"))


@pytest.fixture
def damaged(data, tmp_path) -> Path:
    """Return the same data, with one video cut off and one gone."""
    root = tmp_path / "damaged"
    (root / "all").mkdir(parents=True)
    for file in data.rglob("*.*"):
        if file.is_file():
            (root / file.relative_to(data)).write_bytes(file.read_bytes())
    (root / "all/video1.mp4").write_bytes((data / "all/video1.mp4").read_bytes()[:100])
    (root / "all/video3.mp4").unlink()
    return root


@pytest.mark.parametrize(
    "protocol",
    [
        ["retrieval/msrvtt"],
        pytest.param(["multiple_choice/msrvtt"], marks=pytest.mark.slow),
        pytest.param(["zero_shot/k400", CLASSES], marks=pytest.mark.slow),
    ],
)
def test_damaged_videos_never_count_and_are_listed_last(protocol, mm_folder, damaged):
    arguments = ("evaluate", *protocol, "--model", mm_folder, "--data-root", damaged, *HERE)
    out = damaged / "damaged.json"
    stopped = run(*arguments, "--out", out)
    assert stopped.returncode == 2 and not out.exists()
    assert "of all 4 at most a fraction of 0.01 may be" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    done = run(*arguments, "--out", out, "--max-damaged", 0.5)
    assert done.returncode == 1 and "2 of them damaged" in done.stdout
    assert "2 of 4 failed" in done.stderr and "video1.mp4" in done.stderr and "video3.mp4" in done.stderr
    result = json.loads(out.read_text())
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["video1.mp4", "video3.mp4"]
    scores = result["scores"]
    recalls = scores["text_to_video"]["plain"] if "text_to_video" in scores else scores
    assert max(value for key, value in recalls.items() if key.startswith(("R@", "top"))) <= 50


def test_workers_decode_the_same(mm_folder, data):
    alone, _ = evaluate("retrieval/msrvtt", mm_folder, data)
    options = ("--model", mm_folder, "--data-root", data, "--out", data / "r.json", "--device", "cpu")
    done = run("evaluate", "retrieval/msrvtt", *options, "--workers", 2, "--batch-size", 3)
    assert done.returncode == 0 and "Embedding videos: 100%" in done.stderr
    scores = json.loads((data / "r.json").read_text())["scores"]
    assert scores == alone["scores"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retrieval/msrvtt", "text_length=100"], "at most 77 tokens. Set text_length=77"),
        (["retrieval/msrvtt", "data.list=none.csv"], "none.csv"),
        (["retrieval/msrvtt", "data.list=test.csv", "data.layout=null"], "rows without a caption"),
        (["zero_shot/k400", CLASSES, "data.list=MSRVTT_JSFUSION_test.csv"], "rows without a label"),
        (["retrieval/msvd", "data.only=none.txt"], "none.txt cannot be read"),
        (["retrieval/msrvtt", "--out", "."], "is a folder"),
        (["retrieval/nothing"], "No recipe 'retrieval/nothing'"),
        ([], "is not a classifier"),
    ],
)
def test_mistakes_are_refused_in_one_line(arguments, words, mm_folder, data):
    refused = run("evaluate", *arguments, "--model", mm_folder, "--data-root", data, *HERE)
    assert refused.returncode == 2 and words in refused.stderr and "Traceback" not in refused.stderr
