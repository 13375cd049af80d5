"""Answers as JSON lines: `--out` of classify, zero-shot, caption, ask and localize."""

import json
from pathlib import Path

import pytest
from data.executors.here import Here
from program import assert_refused, run
from video.clips import write_video

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.cli import localization
from internvideo_hf.cli.lines import PipelineAnswerer, Workers, pipeline_question
from internvideo_hf.inference.answering import write_lines

ZERO_SHOT = ("zero-shot-video-classification", "AutoModel")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a.mp4", "c.mp4"):
        write_video(folder / name, num_frames=24)
    (folder / "b.mp4").write_text("no video")
    return folder


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify", "x.mp4", "--model", "demo-classifier", "--gpus", 2], "Add --out FILE.jsonl"),
        (["zero-shot", "x.mp4", "--model", "demo-mm", "--labels", "a", "--video-timeout", 9], "Add --out FILE.jsonl"),
        (["caption", "x.mp4", "--model", "demo-captioner", "--out", "x.jsonl", "--json"], "Leave out --json"),
        (["localize", "x.mp4", "--model", "demo-actionformer", "--out", "x", "--vtt", "x.vtt"], "Leave out --vtt"),
        (["classify", "x.mp4", "--model", "demo-classifier", "--out", "."], "is a folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, words):
    assert_refused(run(*arguments), words)


@pytest.mark.parametrize(
    "command",
    [
        ["classify", "--model", "demo-classifier", "--out", "out.jsonl"],
        ["localize", "--model", "demo-actionformer", "--out", "out.jsonl"],
        ["extract", "--model", "demo-classifier", "--out", "out"],
        ["shrink", "--out", "out"],
    ],
    ids=lambda command: command[0],
)
def test_names_of_which_none_exists_leave_nothing_behind(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(command[0], "none", *command[1:]), "internvideo: none: no such file or folder. Check the path.")
    assert not list(tmp_path.iterdir())


def test_answers_are_those_of_the_pipeline(mm_folder, videos, tmp_path):
    options = {"candidate_labels": ["a bike", "a cake"], "num_clips": 2, "max_views": 1}
    asked = pipeline_question(*ZERO_SHOT, str(mm_folder), None, options)
    names = [str(videos / name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    write_lines(tmp_path / "out.jsonl", names, asked, Here(), quiet=True)
    found = lines_of(tmp_path / "out.jsonl")
    labels = ("--labels", "a bike,a cake", "--num-clips", 2, "--batch-size", 1, "--device", "cpu")
    printed = run("zero-shot", *names, "--model", mm_folder, *labels, "--json", "-q")
    assert found == json.loads(printed.stdout) and "error" in found[1]


def test_a_seed_and_questions_are_of_each_video():
    class Pipe:
        def __call__(self, video):
            import torch

            return [[{"answer": video, "score": torch.rand(()).item()}]]

    answerer = PipelineAnswerer(Pipe(), seed=3, questions=["what?"])
    first, second = (answerer.answer(video, None)["results"] for video in "ab")
    assert first[0]["question"] == "what?" and first[0]["answers"][0]["answer"] == "a"
    assert first[0]["answers"][0]["score"] == second[0]["answers"][0]["score"]


def test_workers_are_named_before_anything_is_loaded(tmp_path):
    Workers("local", None, None, None, None).check(None, {"--json": True})
    with pytest.raises(ValueError, match="Add --out"):
        Workers("ray", None, None, None, None).check(None, {})


@pytest.mark.slow
def test_actions_are_those_that_localize_prints(videos, tmp_path):
    clip = str(videos / "a.mp4")
    how = {"top_k": 3, "min_score": 0.0, "batch_size": 8, "dtype": None, "keep": False, "title": "demo"}
    head = str(demo_path("demo-actionformer"))
    asked = localization._question(head, None, None, {"labels_file": None, "proposals": None}, how)
    assert len(asked.models) == 2
    write_lines(tmp_path / "out.jsonl", [clip], asked, Here(), quiet=True)
    options = ("--top-k", 3, "--min-score", 0, "--device", "cpu", "--json", "-q")
    assert lines_of(tmp_path / "out.jsonl") == json.loads(run("localize", clip, "--model", head, *options).stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["classify", "--model", "demo-classifier", "--views", "2x1"],
        ["caption", "--model", "demo-captioner", "--sample", "--seed", 3],
        ["localize", "--model", "demo-actionformer", "--min-score", 0],
    ],
    ids=lambda command: command[0],
)
def test_a_list_has_a_line_for_each_video(command, videos, tmp_path):
    name, *options = command
    out = tmp_path / "out.jsonl"
    done = run(name, videos, *options, "--device", "cpu", "--out", out)
    assert done.returncode == 1 and "1 of 3 failed" in done.stderr and "3 lines" in done.stdout
    printed = json.loads(run(name, videos, *options, "--device", "cpu", "--json", "-q").stdout)
    assert lines_of(out) == printed and len(printed) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == [out.name, "out.jsonl.failures.jsonl"]


@pytest.mark.slow
def test_questions_have_lines(answerer, videos, tmp_path):
    out = tmp_path / "out.jsonl"
    done = run("ask", videos / "a.mp4", "what is it?", "--model", answerer, "--device", "cpu", "--out", out)
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(out)
    assert line["results"][0]["question"] == "what is it?" and len(line["results"][0]["answers"]) > 0
