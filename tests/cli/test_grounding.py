"""`ground`: stretches of sentences in raw videos, and refusals in one line."""

import json

import pytest
from data.executors.here import Here
from program import assert_refused, run
from tasks.temporal_grounding.heads import write_drawn, write_head
from transformers import pipeline

from internvideo_hf.cli import grounding
from internvideo_hf.inference.answering import write_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a head and a folder with a video and a file that is none."""
    folder = tmp_path_factory.mktemp("ground")
    write_head(folder / "head")
    (folder / "videos").mkdir()
    write_drawn(folder / "videos/clip.mp4")
    (folder / "videos/text.mp4").write_text("no video")
    return folder


def test_answers_are_those_of_the_pipeline(folder):
    asked = ("a red moon moves up", "the moon")
    done = run("ground", folder / "videos", *asked, "--model", folder / "head", "--top-k", 2, "--json", "-q")
    assert done.returncode == 1 and "text.mp4" in done.stderr
    clip, text = json.loads(done.stdout)
    ground = pipeline("video-temporal-grounding", model=str(folder / "head"), device="cpu")
    expected = ground(str(folder / "videos/clip.mp4"), query=list(asked), top_k=2)
    assert [entry["query"] for entry in clip["queries"]] == list(asked) and "error" in text
    for entry, own in zip(clip["queries"], expected, strict=True):
        for answer, other in zip(entry["answers"], own, strict=True):
            assert answer == pytest.approx(other, abs=1e-5)


def test_people_read_times(folder):
    video = folder / "videos/clip.mp4"
    done = run("ground", video, "the moon", "--model", folder / "head", "--top-k", 1, "--keep-features", "-q")
    assert done.returncode == 0, done.stderr
    name, query, answer = done.stdout.splitlines()
    assert name.endswith("clip.mp4") and query == "  the moon" and " - " in answer and answer.endswith("%")
    assert list((folder / "videos").glob("clip.mp4.*.safetensors"))


def test_refusals_name_the_way_on(folder):
    video = folder / "videos/clip.mp4"
    assert_refused(run("ground", video, " ", "--model", folder / "head"), "A sentence is empty")
    assert_refused(run("ground", video, "a", "--model", "demo-mm"), "not a head that grounds sentences", "zero-shot")
    assert_refused(
        run("localize", video, "--model", folder / "head"), "is not a head on features", "internvideo ground"
    )
    refused = run("ground", video, "a", "--model", folder / "head", "--text-encoder", "demo-classifier")
    assert_refused(refused, "reads no text")


def test_lines_are_what_json_holds(folder, tmp_path):
    videos = [str(folder / "videos" / name) for name in ("clip.mp4", "text.mp4")]
    asked = ("a red moon moves up", "the moon")
    how = {"encoder": None, "text_encoder": None, "batch_size": 8, "dtype": None, "keep": False, "title": "head"}
    question = grounding._question(str(folder / "head"), {**how, "queries": asked, "top_k": 2})
    assert len(question.models) == 3, "the head, and its encoders of videos and words"
    write_lines(tmp_path / "out.jsonl", videos, question, Here(), quiet=True)
    options = ("--model", folder / "head", "--top-k", 2, "--device", "cpu", "--json", "-q")
    printed = json.loads(run("ground", folder / "videos", *asked, *options).stdout)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == printed
    assert_refused(run("ground", videos[0], "a", *options, "--out", tmp_path / "x.jsonl"), "Leave out --json")


@pytest.mark.slow
def test_a_list_has_a_line_for_each_video(folder, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--model", folder / "head", "--device", "cpu")
    done = run("ground", folder / "videos", "the moon", *options, "--out", out)
    assert done.returncode == 1 and "1 of 2 failed" in done.stderr and "2 lines" in done.stdout
    printed = json.loads(run("ground", folder / "videos", "the moon", *options, "--json", "-q").stdout)
    assert [json.loads(line) for line in out.read_text().splitlines()] == printed
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.failures.jsonl"]
