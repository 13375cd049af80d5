"""`scan` and `shrink`: outputs and exit codes."""

import json
import os
import sys
from pathlib import Path

import pytest
from program import assert_refused, run
from video.clips import write_video


def test_scan_lists_bad_files_last_and_writes_them(tmp_path):
    write_video(tmp_path / "good.mp4", 8)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "list.csv").write_text("good.mp4,0\nempty.mp4,1\nnone.mp4,2\n")
    result = run("scan", tmp_path / "list.csv", "--jobs", 1, "--out", tmp_path / "bad.json")
    assert result.returncode == 1 and "1 of 3 videos are readable" in result.stdout
    assert "empty.mp4" in result.stderr.split("2 of 3 failed:")[1]
    assert [bad["video"] for bad in json.loads((tmp_path / "bad.json").read_text())["bad"]] == [
        str(tmp_path / name) for name in ("empty.mp4", "none.mp4")
    ]
    rows = [json.loads(line) for line in (tmp_path / "bad.json.failures.jsonl").read_text().splitlines()]
    assert [(Path(row["video"]).name, row["stage"], row["attempts"]) for row in rows] == [
        ("empty.mp4", "scan", 1),
        ("none.mp4", "scan", 1),
    ]
    quiet = run("scan", tmp_path / "good.mp4", "--whole", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert_refused(run("scan", tmp_path / "none.mp4"), "none.mp4")
    (tmp_path / "list.csv").write_text("good.mp4,0\n\n")
    assert_refused(run("scan", tmp_path / "list.csv"), "line 2", "empty")
    assert_refused(run("scan", tmp_path / "list.csv", "--data-root", tmp_path / "nowhere"), "nowhere")


def test_shrink_keeps_paths_and_does_nothing_twice(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    write_video(tmp_path / "in/a.avi", 8)
    write_video(tmp_path / "in/deep/b.mp4", 8)
    (tmp_path / "in/bad.mp4").touch()
    options = ("--out", tmp_path / "out", "--short-side", 32, "--keyframe-interval", 4)
    result = run("shrink", tmp_path / "in", *options, "--jobs", 1)
    assert result.returncode == 1 and "Wrote 2 videos" in result.stdout
    assert "bad.mp4" in result.stderr.split("1 of 3 failed:")[1]
    assert (tmp_path / "out/a.mp4").is_file() and (tmp_path / "out/deep/b.mp4").is_file()
    (row,) = map(json.loads, (tmp_path / "out/failures.jsonl").read_text().splitlines())
    assert row["video"] == str(tmp_path / "in/bad.mp4") and row["stage"] == "shrink"
    again = run("shrink", tmp_path / "in/a.avi", *options)
    assert again.returncode == 0 and "1 already existed" in again.stdout
    assert_refused(
        run("shrink", tmp_path / "in/a.avi", "--out", tmp_path / "out"),
        "keyframe_interval 4, now 12; short_side 32, now 320",
    )
    assert_refused(run("shrink", tmp_path / "in", *options[:2], "--short-side", 33), "even")
    assert_refused(run("shrink", tmp_path / "in", "--out", tmp_path / "in"), "small copy")
    assert_refused(run("shrink", tmp_path / "in/deep/b.mp4", "--out", tmp_path / "in/a.avi"), "name of a folder")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_names_of_any_bytes_are_reported(tmp_path):
    names = [os.fsdecode(b"caf\xe9.mp4"), "x" * 251 + ".mp4", "y" * 300 + ".mp4", "http://[::1"]
    paths = [str(tmp_path / name) for name in names[:3]] + names[3:]
    for path in paths[:2]:
        write_video(tmp_path / "good.mp4", 2)
        os.replace(tmp_path / "good.mp4", path)
    result = run("scan", *paths, "--jobs", 1, "--out", tmp_path / "bad.json", "-q")
    assert result.returncode == 1 and "2 of 4 failed:" in result.stderr
    report = json.loads((tmp_path / "bad.json").read_bytes().decode())
    assert [bad["video"] for bad in report["bad"]] == paths[2:]
    shrunk = run("shrink", *paths[:3], "--out", tmp_path / "out", "--jobs", 1, "-q")
    assert shrunk.returncode == 1 and sorted(os.listdir(tmp_path / "out")) == sorted([*names[:2], "failures.jsonl"])
    Path(paths[0]).write_text("no video")
    assert "caf" in run("scan", *paths[:2], "--jobs", 1, "--out", tmp_path / "bad.json").stderr
    assert json.loads((tmp_path / "bad.json").read_bytes().decode())["bad"][0]["video"] == paths[0]


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.data.verification.verify_videos", None)
    (tmp_path / "file").touch()
    assert_refused(run("scan", "v.mp4", "--out", tmp_path / "file/bad.json"), "file/bad.json cannot be written")


def test_what_a_folder_holds_beside_videos_is_counted(tmp_path):
    write_video(tmp_path / "good.mp4", 8)
    for name in ("._good.mp4", "notes.txt"):
        (tmp_path / name).touch()
    result = run("scan", tmp_path, "--jobs", 1)
    assert result.returncode == 0 and "Left out 2 files and folders: 1 .txt, 1 hidden.\n" in result.stderr
    assert run("scan", tmp_path, "--jobs", 1, "-q").stderr == ""
