"""`scan` and `shrink`: outputs and exit codes."""

import json

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
    again = run("shrink", tmp_path / "in/a.avi", *options)
    assert again.returncode == 0 and "1 already existed" in again.stdout
    assert_refused(run("shrink", tmp_path / "in/a.avi", "--out", tmp_path / "out"), "these settings")
    assert_refused(run("shrink", tmp_path / "in", *options[:2], "--short-side", 33), "even")
    assert_refused(run("shrink", tmp_path / "in", "--out", tmp_path / "in"), "small copy")
    assert_refused(run("shrink", tmp_path / "in/deep/b.mp4", "--out", tmp_path / "in/a.avi"), "name of a folder")
