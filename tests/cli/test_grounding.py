"""`ground`: stretches of sentences in raw videos, and refusals in one line."""

import json

import pytest
from program import assert_refused, run
from tasks.temporal_grounding.heads import write_drawn, write_head
from transformers import pipeline


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
