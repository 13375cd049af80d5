"""Plans of all kinds of lists, and downloads by a stand-in of yt-dlp."""

import json
import sys

import pytest

from internvideo_hf.curation import sources
from internvideo_hf.curation.sources import Download, count_plan, downloader, write_plan
from internvideo_hf.curation.stages import run_stage
from internvideo_hf.data.records import ManifestError

RECORD = {"Start_timestamp": "00:00:01.5", "End_timestamp": "00:00:03", "Caption": "a dog", "UMT_Score": 0.4}


def table(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def plan(tmp_path, *given, **options):
    return write_plan(given, tmp_path / "stages/plan.jsonl", **options)


def test_a_table_gives_a_row_for_each_video_with_its_clips(tmp_path):
    (tmp_path / "videos/deep").mkdir(parents=True)
    (tmp_path / "videos/deep/7q_1Lg3YqEE.webm").write_text("12345")
    listed = table(
        tmp_path / "t.jsonl",
        {"YoutubeID": "7q_1Lg3YqEE", **RECORD},
        {"YoutubeID": "-Xa9bc_dEfG", **RECORD},
        {"YoutubeID": "7q_1Lg3YqEE", **RECORD, "Start_timestamp": "0", "Caption": None},
    )
    made = plan(tmp_path, listed, data_root=tmp_path / "videos")
    here, away = made
    assert here["video"] == str(tmp_path / "videos/deep/7q_1Lg3YqEE.webm") and here["bytes"] == 5
    assert here["segments"] == [
        {"start": 1.5, "end": 3.0, "caption": "a dog", "about": {"umt_score": 0.4}},
        {"start": 0.0, "end": 3.0, "caption": None, "about": {"umt_score": 0.4}},
    ]
    assert (away["video"], away["url"]) == (None, "https://www.youtube.com/watch?v=-Xa9bc_dEfG")
    assert count_plan(made) == {"here": 1, "to download": 1, "clips": 3}


def test_files_folders_lists_and_addresses_get_ids_that_are_fit_for_names(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/my clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = table(tmp_path / "l.jsonl", {"video": "a/x.mp4", "start": 1, "end": 2, "caption": "c"})
    rows = list(
        plan(
            tmp_path,
            str(tmp_path / "a"),
            tmp_path / "b",
            listed,
            "https://youtu.be/7q_1Lg3YqEE?t=3",
            "https://e.org/a.mp4",
        )
    )
    assert [row["source"][:8] for row in rows] == [
        "x",
        "my_clip_",
        "x_" + rows[2]["source"][2:8],
        "7q_1Lg3Y",
        "a_" + rows[4]["source"][2:8],
    ]
    assert len({row["source"] for row in rows}) == 5 and all(sources._SAFE_ID.fullmatch(row["source"]) for row in rows)
    assert rows[0]["segments"] is None  # the folder was named first: its videos are divided into shots
    assert list(plan(tmp_path, listed))[0]["segments"] == [{"start": 1.0, "end": 2.0, "caption": "c", "about": {}}]


def test_ids_that_lead_elsewhere_and_lists_without_videos_are_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"record 1: the YoutubeID is '\.\./x'"):
        plan(tmp_path, table(tmp_path / "t.jsonl", {"YoutubeID": "../x", **RECORD}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no video"):
        plan(tmp_path, tmp_path / "empty")


STAND_IN = """
import sys, pathlib
url, out = sys.argv[-1], sys.argv[sys.argv.index("--output") + 1]
assert sys.argv[-2] == "--" and "--ignore-config" in sys.argv
if "gone" in url:
    print("WARNING: x\\nERROR: [youtube] gone_gone_g: Video unavailable.", file=sys.stderr)
    sys.exit(1)
pathlib.Path(out.replace("%(ext)s", "webm")).write_text("video")
"""


def test_downloads_and_videos_that_are_gone(tmp_path, monkeypatch):
    (tmp_path / "yt.py").write_text(STAND_IN)
    (tmp_path / "local.mp4").write_text("here")
    listed = table(
        tmp_path / "t.jsonl", {"YoutubeID": "gone_gone_g", **RECORD}, {"YoutubeID": "-Xa9bc_dEfG", **RECORD}
    )
    made = plan(tmp_path, listed, tmp_path / "local.mp4", tmp_path / "none.mp4")
    stage = Download(tmp_path, pause=0)
    monkeypatch.setattr(sources, "downloader", lambda: None)
    _, report = run_stage(stage, made, tmp_path)
    assert (report.rows_out, report.failures) == (1, 3)
    assert "yt-dlp is not installed" in (tmp_path / "failures/download.jsonl").read_text()
    monkeypatch.setattr(sources, "downloader", lambda: [sys.executable, str(tmp_path / "yt.py")])
    assert run_stage(stage, made, tmp_path)[1].failures == 3  # until it is asked for
    out, report = run_stage(stage, made, tmp_path, retry=True)
    # Downloads are named from the folder on, which may move.
    assert [row["video"] for row in out] == ["sources/-Xa9bc_dEfG.webm", str(tmp_path / "local.mp4")]
    causes = [json.loads(line)["cause"] for line in (tmp_path / "failures/download.jsonl").read_text().splitlines()]
    assert causes == ["yt-dlp: [youtube] gone_gone_g: Video unavailable", "there is no such file"]
    (tmp_path / "yt.py").unlink()
    assert run_stage(stage, made, tmp_path)[1].failures == 2
    (tmp_path / "sources/-Xa9bc_dEfG.webm").unlink()
    assert run_stage(stage, made, tmp_path)[1].failures == 3  # its part is done anew


def test_the_downloader_is_a_module_or_a_program_or_none(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sources.shutil, "which", lambda name: f"/bin/{name}")
    assert downloader() == ["/bin/yt-dlp"]
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    assert downloader() is None
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: name)
    assert downloader() == [sys.executable, "-m", "yt_dlp"]
