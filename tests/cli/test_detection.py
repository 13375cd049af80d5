"""`detect-actions`: people and actions of raw videos, files beside them, and refusals in one line."""

import csv
import json
import re

import pytest
from data.executors.here import Here
from PIL import Image
from program import assert_refused, run
from tasks.action_detection.small import write_detector, write_model
from tasks.temporal_localization.heads import write_holed
from transformers import pipeline
from video.clips import write_video

from internvideo_hf import VideoReader
from internvideo_hf.cli import detection
from internvideo_hf.inference.answering import write_lines
from internvideo_hf.tasks.action_detection.annotations import read_predictions
from internvideo_hf.tasks.action_detection.detection import ActionDetector

BOX = [0.25, 0.0, 0.75, 0.5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model, a detector, and two videos in `videos`, one of which is damaged."""
    folder = tmp_path_factory.mktemp("detect")
    write_model(folder / "model")
    write_detector(folder / "detector")
    (folder / "videos").mkdir()
    write_video(folder / "videos/clip.mp4", 75)
    write_holed(folder / "videos/holed.mkv", 75, 29, 31)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def call(folder):
    return (
        "--model",
        folder / "model",
        "--detector",
        folder / "detector",
        "--min-person-score",
        0.3,
        "--every",
        "0.5s",
    )


def test_json_holds_what_the_pipeline_answers(folder, call, cache):
    done = run("detect-actions", folder / "videos", *call, "--json", "-q", "--top-k", 2, "--min-score", 0)
    assert (done.returncode, done.stderr) == (0, "")
    options = {"detector": folder / "detector", "person_threshold": 0.3, "every": 0.5, "device": "cpu"}
    answer = pipeline("video-action-detection", model=folder / "model", **options)
    found = json.loads(done.stdout)
    assert [one["video"] for one in found] == [str(folder / "videos" / name) for name in ("clip.mp4", "holed.mkv")]
    for one in found:
        assert answer(one.pop("video"), top_k=2) == one
    assert len(found[1]["key_frames"]) == 4 and found[1]["gaps"] == [pytest.approx([0.75, 1.25])]
    assert not list(cache.rglob("*.*")), "nothing stays in the cache"


def test_people_are_printed_and_written(folder, call, tmp_path):
    out = ("--video", tmp_path / "v", "--montage", tmp_path / "m", "--csv", tmp_path / "c/all.csv")
    done = run("detect-actions", tmp_path / "missing.mp4", folder / "videos", *call, *out)
    assert done.returncode == 1 and "missing.mp4" in done.stderr.split("1 of 3 failed:")[1]
    assert "0:00:00.8 - 0:00:01.2  damaged: nothing is known" in done.stdout and "person 1 " in done.stdout
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    assert written == {
        "v/clip.mp4.mp4", "v/holed.mkv.mp4", "m/clip.mp4.png", "m/holed.mkv.png", "c/all.csv",
    }  # fmt: skip
    assert Image.open(tmp_path / "m/clip.mp4.png").width > 1000
    with VideoReader(tmp_path / "v/clip.mp4.mp4") as clip, VideoReader(tmp_path / "v/holed.mkv.mp4") as holed:
        assert (clip.num_frames, holed.num_frames) == (75, 73)
    rows = list(csv.reader((tmp_path / "c/all.csv").open()))
    assert {row[0] for row in rows} == {"clip", "holed"} and {row[6] for row in rows} == {"1", "2", "3", "4"}
    assert {row[1] for row in rows} == {"0000", "0.500", "0001", "1.500", "0002"}
    assert len(read_predictions(tmp_path / "c/all.csv")) == len(rows)


def test_one_video_has_the_files_that_are_named(folder, call, tmp_path):
    out = ("--video", tmp_path / "drawn.mp4", "--montage", tmp_path / "drawn.jpg")
    done = run("detect-actions", folder / "videos/clip.mp4", *call, *out, "-q")
    assert done.returncode == 0 and {file.name for file in tmp_path.glob("*.*")} == {"drawn.mp4", "drawn.jpg"}


def test_boxes_may_be_given(folder, tmp_path):
    (tmp_path / "boxes.csv").write_text("clip,1,0.25,0,0.75,0.5,,0.5\nclip,0002,0.25,0,0.75,0.5,,1\n")
    call = ("detect-actions", folder / "videos", "--model", folder / "model", "--boxes", tmp_path / "boxes.csv", "-q")
    done = run(*call, "--json", "--top-k", 1)
    assert done.returncode == 1 and "has no boxes of holed, but of clip." in done.stderr
    clip, holed = json.loads(done.stdout)
    assert "error" in holed and [one["time"] for one in clip["key_frames"]] == [1, 2]
    assert [(p["box"], p["score"], p["track"]) for one in clip["key_frames"] for p in one["people"]] == [
        (BOX, 0.5, 1), (BOX, 1, 1),
    ]  # fmt: skip
    (tmp_path / "boxes.csv").write_text("clip,1,0.25,0,0.75,nan\n")
    assert_refused(run(*call), "boxes.csv", "line 1", "its box is 0.25, 0, 0.75, nan")


def test_what_is_read_is_not_replaced(folder, call, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes((folder / "videos/clip.mp4").read_bytes())
    (tmp_path / "link.mp4").symlink_to(clip)
    before = clip.read_bytes()
    for option, out in (("--video", clip), ("--video", tmp_path / "link.mp4"), ("--csv", clip)):
        assert_refused(run("detect-actions", clip, *call, option, out), f"{option} would replace {out}, which is read")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("clip,1,0.25,0,0.75,0.5\n")
    given = ("detect-actions", clip, "--model", folder / "model", "--boxes", boxes, "--csv", boxes)
    assert_refused(run(*given), f"--csv would replace {boxes}")
    assert clip.read_bytes() == before


def test_a_video_without_people_says_why(folder, call, tmp_path):
    (tmp_path / "boxes.csv").write_text("clip,1\n")
    given = ("--model", folder / "model", "--boxes", tmp_path / "boxes.csv")
    assert "no boxes in the frame (--boxes)" in run("detect-actions", folder / "videos/clip.mp4", *given, "-q").stdout
    missing = run("detect-actions", tmp_path / "missing.mp4", *given, "-q")
    assert_refused(missing, "missing.mp4: no such file or folder")


def test_videos_of_equal_names_do_not_share_boxes(folder, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "clip.mp4").write_bytes((folder / "videos/clip.mp4").read_bytes())
    (tmp_path / "boxes.csv").write_text("a/clip.mp4,1,0.25,0,0.75,0.5\nclip,2,0.25,0,0.75,0.5\n")
    call = ("detect-actions", tmp_path / "a", tmp_path / "b", "--model", folder / "model", "-q", "--boxes")
    done = run(*call, tmp_path / "boxes.csv", "--csv", tmp_path / "out.csv")
    assert done.returncode == 1 and "has no boxes of b/clip.mp4" in done.stderr
    assert {line.split(",0001")[0] for line in (tmp_path / "out.csv").read_text().splitlines()} == {"a/clip.mp4"}
    (tmp_path / "boxes.json").write_text(json.dumps([{"time": 1, "boxes": [BOX]}]))
    assert_refused(run(*call, tmp_path / "boxes.json"), "boxes.json has the boxes of one video, and there are 2")


def test_a_killed_call_is_taken_up_where_it_was(folder, call, tmp_path, monkeypatch, cache):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    command = ("detect-actions", folder / "videos/clip.mp4", *call, "--batch-size", 1, "--json", "-q")
    whole, score, calls = run(*command), ActionDetector._score, []

    def count(self, *arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(ActionDetector, "_score", count)
    assert run(*command).returncode == 130 and len(list(cache.rglob("*.safetensors"))) == 3
    other = run(*command, "--every", 0.4)
    assert other.returncode == 0 and len(calls) == 4 + 7, "other settings begin again"
    again = run(*command)
    assert again.stdout == whole.stdout and len(calls) == 4 + 7 + 2
    assert not list(cache.rglob("*.*"))


def test_people_of_a_time_are_in_the_order_of_their_numbers(folder, tmp_path):
    other = [0.8, 0.6, 1.0, 1.0]
    rows = [[BOX, other], [BOX], [BOX, other]]  # the second leaves and comes back
    times = [{"time": number / 2, "boxes": boxes} for number, boxes in enumerate(rows)]
    (tmp_path / "boxes.json").write_text(json.dumps(times))
    given = ("--model", folder / "model", "--boxes", tmp_path / "boxes.json", "-q", "--min-score", 0, "--top-k", 4)
    lines = run("detect-actions", folder / "videos/clip.mp4", *given).stdout.splitlines()
    assert [re.split("  +", line.strip())[:2] for line in lines[1:]] == [
        ["0:00:00.0 - 0:00:01.0", "person 1"],
        ["0:00:00.0 - 0:00:00.0", "person 2"],
        ["0:00:01.0 - 0:00:01.0", "person 2"],
    ]


def test_equal_key_frames_in_a_row_are_one_line(folder):
    (folder / "boxes.json").write_text(
        json.dumps([
            *({"time": time, "boxes": [BOX]} for time in (0.0, 0.5, 1.0)),
            {"time": 2.0, "boxes": [[0, 0, 0.1, 0.1]]},
        ])
    )  # fmt: skip
    given = ("--model", folder / "model", "--boxes", folder / "boxes.json", "-q")
    call = ("detect-actions", folder / "videos/clip.mp4", *given)
    lines = run(*call, "--min-score", 0, "--top-k", 4).stdout.splitlines()
    assert [re.split("  +", line.strip())[:3] for line in lines[1:]] == [
        ["0:00:00.0 - 0:00:01.0", "person 1", "16,0 - 48,24"],
        ["0:00:02.0 - 0:00:02.0", "person 2", "0,0 - 6,5"],
    ]
    assert all(line.count("%") == 4 for line in lines[1:])
    assert "nothing above --min-score" in run(*call, "--min-score", 1).stdout
    nobody = run("detect-actions", folder / "videos/clip.mp4", "--model", folder / "model", "--detector",
                 folder / "detector", "--min-person-score", 1, "-q")  # fmt: skip
    assert "no people (--min-person-score)" in nobody.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "demo-classifier", "--detector", "{detector}"),
            ("demo-classifier is not an action detector", "internvideo classify VIDEO")),
        (("--model", "{model}"), ("Say where the people are", "--detector", "--boxes FILE")),
        (("--model", "{model}", "--detector", "{detector}", "--boxes", "x.csv"), ("one of the two",)),
        (("--model", "{model}", "--boxes", "x.csv", "--every", "2s"), ("--every is for --detector",)),
        (("--model", "{model}", "--boxes", "x.csv", "--min-person-score", "0"), ("--min-person-score is for",)),
        (("--model", "{model}", "--boxes", "x.csv"), ("x.csv: it cannot be opened",)),
        (("--model", "{model}", "--detector", "{model}"), ("is not a detector of objects",)),
        (("--model", "{model}", "--detector", "{dogs}"), ("no class 'person'; it detects dog, cat", "--person-class")),
        (("--model", "{model}", "--detector", "{detector}", "--every", "0s"), ("--every 0s: expected seconds",)),
        (("--model", "{model}", "--detector", "{detector}", "--every", "2 min"), ("--every 2 min: expected seconds",)),
        (("--model", "{model}", "--detector", "{detector}", "--every", "1e-9"), ("--every 1e-9: expected seconds",)),
        (("--model", "{model}", "--detector", "{detector}", "--every", ".0009"), ("expected seconds, 0.001 or more",)),
        (("--model", "{model}", "--detector", "{detector}", "--video", "x.png"), ("ending of x.png", ".mp4")),
        (("--model", "{model}", "--detector", "{detector}", "--montage", "x.mp4"), ("ending of x.mp4", ".png")),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_in_one_line(folder, tmp_path, arguments, words):
    paths = {"model": folder / "model", "detector": folder / "detector"}
    if "{dogs}" in arguments:
        paths["dogs"] = write_detector(tmp_path / "dogs", {0: "dog", 1: "cat"})
    refused = run("detect-actions", folder / "videos/clip.mp4", *(text.format(**paths) for text in arguments), "-q")
    assert_refused(refused, *words)
    assert len(refused.stderr.strip().splitlines()) <= 2


def test_another_command_names_this_one(folder):
    refused = run("classify", folder / "videos/clip.mp4", "--model", folder / "model")
    assert_refused(refused, "is not a classifier", "internvideo detect-actions VIDEO --model")


@pytest.mark.parametrize("given", [False, True])
def test_lines_are_what_json_holds(folder, call, tmp_path, given):
    videos = [str(folder / "videos" / name) for name in ("clip.mp4", "holed.mkv")]
    (tmp_path / "people.csv").write_text("clip,1,0.25,0,0.75,0.5,,0.9\nholed,2,0.25,0,0.75,0.5,,0.9\n")
    how = {"every": 0.5, "batch_size": 8, "dtype": None, "person_class": None, "threshold": 0.3}
    how |= {"detector": str(folder / "detector"), "boxes": None, "top_k": 3, "min_score": 0.0}
    options = call
    if given:
        boxes = str(tmp_path / "people.csv"), tuple(zip(videos, ("clip", "holed"), strict=True))
        how |= {"detector": None, "boxes": boxes, "threshold": None, "every": 1.0}
        options = ("--model", folder / "model", "--boxes", tmp_path / "people.csv")
    question = detection._question(str(folder / "model"), how)
    assert (len(question.models), len(question.files)) == ((1, 1) if given else (2, 0))
    write_lines(tmp_path / "out.jsonl", videos, question, Here(), quiet=True)
    done = run("detect-actions", *videos, *options, "--min-score", 0, "--device", "cpu", "--json", "-q")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == json.loads(done.stdout)


def test_json_lines_stand_alone(folder, call, tmp_path):
    arguments = ("detect-actions", folder / "videos", *call)
    assert_refused(run(*arguments, "--out", tmp_path / "x.jsonl", "--csv", tmp_path / "x.csv"), "Leave out --csv")
    assert_refused(run(*arguments, "--gpus", 2), "Add --out FILE.jsonl")


@pytest.mark.slow
def test_a_list_has_a_line_for_each_video(folder, call, tmp_path):
    out = tmp_path / "out.jsonl"
    done = run("detect-actions", folder / "videos", *call, "--device", "cpu", "--out", out)
    assert done.returncode == 0 and "2 lines" in done.stdout, done.stderr
    printed = json.loads(run("detect-actions", folder / "videos", *call, "--device", "cpu", "--json", "-q").stdout)
    assert [json.loads(line) for line in out.read_text().splitlines()] == printed
