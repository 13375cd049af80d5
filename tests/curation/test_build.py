"""Whole builds: from videos, and from a table of InternVid; what is written is what the subsets and training take."""

import json
import sys

import dying
import pytest
import torch

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.curation import sources
from internvideo_hf.curation.build import BuildSettings, build_dataset, record_of
from internvideo_hf.curation.captions import CaptionSettings
from internvideo_hf.curation.scores import Aesthetics
from internvideo_hf.curation.shots import ShotSettings
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.internvid import load_internvid, training_rows
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.subsets import ScoreCut, score_subset
from internvideo_hf.utils.locks import LockedError, lock_folder

FIXED = ShotSettings("fixed", seconds=2)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def with_all_stages(blip, clip, folder):
    """Return settings of captions and both scores; `folder` gets the head."""
    torch.save({"weight": torch.ones(1, 8), "bias": torch.zeros(1)}, folder / "head.pth")
    return BuildSettings(
        shots=FIXED,
        captions=CaptionSettings(str(blip), max_new_tokens=2),
        similarity=str(demo_path("demo-mm")),
        aesthetics=(str(clip), folder / "head.pth"),
        device="cpu",
    )


def test_videos_become_clips_with_captions_and_scores(shots, blip, clip, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    settings = with_all_stages(blip, clip, tmp_path)
    out, seen = tmp_path / "out", []
    report = build_dataset([shots, tmp_path / "bad.mp4"], out, settings)
    assert [(stage.name, stage.rows_in, stage.rows_out, stage.failures) for stage in report.stages] == [
        *[("plan", 2, 2, 0), ("download", 2, 2, 0), ("shots", 2, 1, 1), ("clips", 1, 3, 0)],
        *[("captions", 3, 3, 0), ("similarity", 3, 3, 0), ("aesthetics", 3, 3, 0)],
    ]
    records = lines(out / "records.jsonl")
    assert [(record["Start_timestamp"], record["End_timestamp"]) for record in records] == [
        ("00:00:00.000", "00:00:02.000"),
        ("00:00:02.000", "00:00:04.000"),
        ("00:00:04.000", "00:00:06.000"),
    ]
    assert all(record["YoutubeID"] == "7q_1Lg3YqEE" and record["Caption"] for record in records)
    assert all(abs(record["Similarity"]) <= 1 and "Aesthetic_Score" in record for record in records)
    # What is written is read by what follows.
    data = load_internvid(out / "records.jsonl")
    assert data.num_rows == 3 and data[0]["similarity"] == records[0]["Similarity"]
    cut = ScoreCut(None, ("umt_score", "similarity"), fraction=0.34)
    assert score_subset([out / "records.jsonl"], tmp_path / "flt.jsonl", cut).kept == 1
    assert list(training_rows(out / "records.jsonl", out)) == lines(out / "train.jsonl")
    assert load_manifest(out / "train.jsonl").num_rows == 3
    assert "| aesthetics | 3 | 3 | 0 |" in (out / "README.md").read_text()

    # Nothing is done again, but what a changed setting asks for.
    def note(name, total):
        seen.append(name)
        return _Bar()

    with pytest.MonkeyPatch.context() as patch:
        for name in ("shots.find_shots", "cutting.cut_exact", "captions.PictureCaptioner", "scores.Embedder"):
            patch.setattr(f"internvideo_hf.curation.{name}", None)
        patch.setattr(Aesthetics, "load", None)
        again = build_dataset([shots, tmp_path / "bad.mp4"], out, settings, bar=note)
    assert again == report and lines(out / "records.jsonl") == records
    assert seen == ["download", "shots", "clips", "captions", "similarity", "aesthetics"]


@pytest.mark.slow
def test_workers_with_models_of_their_own_make_the_same_files(shots, blip, clip, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    settings = with_all_stages(blip, clip, tmp_path)
    sources = [shots, tmp_path / "bad.mp4"]
    engine = LocalEngine(["cpu", "cpu"], jobs=2)
    reports = [
        build_dataset(sources, tmp_path / "one", settings),
        build_dataset(sources, tmp_path / "two", settings, jobs=2, engine=engine),
    ]
    assert reports[0] == reports[1] and files(tmp_path / "one") == files(tmp_path / "two")
    with pytest.raises(ValueError, match="no image embeddings of 9 numbers"):
        torch.save({"weight": torch.ones(1, 9), "bias": torch.zeros(1)}, tmp_path / "head.pth")
        build_dataset(sources, tmp_path / "two", settings, engine=engine)


def files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class _Bar:
    def __enter__(self):
        return lambda count: None

    def __exit__(self, *error):
        return None


def test_a_table_is_cut_at_its_times_and_keeps_its_captions(shots, tmp_path):
    record = {"Caption": "a red wall", "UMT_Score": 0.5, "Language": "en", "Type": "art"}
    rows = [
        {"YoutubeID": "7q_1Lg3YqEE", "Start_timestamp": "00:00:01.000", "End_timestamp": "00:00:02.500", **record},
        {"YoutubeID": "7q_1Lg3YqEE", "Start_timestamp": "00:00:05.000", "End_timestamp": "00:00:05.500", **record},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = build_dataset([tmp_path / "t.jsonl"], tmp_path / "out", BuildSettings(), data_root=shots.parent)
    assert (report.records, report.trainable, report.plan) == (1, 1, {"here": 1, "to download": 0, "clips": 2})
    video = "clips/7q/7q_1Lg3YqEE_1.000_2.500.mp4"
    assert lines(tmp_path / "out/records.jsonl") == [{**rows[0], "video": video}]
    assert lines(tmp_path / "out/train.jsonl") == [{"video": video, "caption": "a red wall"}]
    assert "Shots that were left out: 1 shorter than 1 s." in (tmp_path / "out/README.md").read_text()


def test_a_killed_build_goes_on_and_ends_the_same(shots, tmp_path):
    settings = BuildSettings(until="clips", shots=FIXED)
    build_dataset([shots], tmp_path / "whole", settings)
    work = lambda: build_dataset([shots], tmp_path / "out", settings)  # noqa: E731
    assert dying.run(work, kill_before="*_2.000_4.000.mp4") == dying.KILLED
    assert dying.run(work, kill_before="README.md") == dying.KILLED
    assert dying.run(work) == 0
    assert files(tmp_path / "whole") == files(tmp_path / "out")


def test_a_plan_alone_cuts_nothing_and_another_build_is_kept_out(shots, tmp_path):
    report = build_dataset([shots], tmp_path / "out", BuildSettings(until="plan"))
    assert report.records is None and not (tmp_path / "out/records.jsonl").exists()
    assert "The plan: 1 here" in (tmp_path / "out/README.md").read_text()
    with lock_folder(tmp_path / "busy"), pytest.raises(LockedError):
        build_dataset([shots], tmp_path / "busy", BuildSettings(until="plan"))


def test_records_keep_what_a_table_said_and_times_are_rounded():
    row = {"source": "s", "clip": "c.mp4", "start": 3661.0006, "end": 3662, "caption": None, "about": {"umt_score": 1}}
    assert record_of({**row, "fine": "f"}) == {
        "UMT_Score": 1,
        "YoutubeID": "s",
        "Start_timestamp": "01:01:01.001",
        "End_timestamp": "01:01:02.000",
        "Caption": None,
        "fine": "f",
        "video": "c.mp4",
    }


@pytest.mark.parametrize("options", [{"until": "captoins"}, {"downloads": 0}, {"height": 0}, {"pause": -1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Did you mean captions|expected at least 1, 0 and 1"):
        BuildSettings(**options)


def test_downloads_are_cut_and_a_build_that_was_moved_is_done(shots, tmp_path, monkeypatch):
    script = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[sys.argv.index('--output') + 1] % {'ext': 'mp4'})"
    monkeypatch.setattr(sources, "downloader", lambda: [sys.executable, "-c", script, str(shots)])
    url, settings = "https://www.youtube.com/watch?v=7q_1Lg3YqEE", BuildSettings(until="clips", shots=FIXED, pause=0)
    report = build_dataset([url], tmp_path / "out", settings)
    assert report.plan["to download"] == 1 and report.records == 3
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.setattr(sources, "downloader", lambda: None)
    monkeypatch.setattr("internvideo_hf.curation.cutting.cut_exact", None)
    assert build_dataset([url], tmp_path / "moved", settings) == report
