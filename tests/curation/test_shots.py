"""Shots: boundaries of drawn videos to the frame, lengths that are left out."""

import sys

import numpy as np
import pytest

from internvideo_hf.curation.shots import Shots, ShotSettings, find_shots

THIRDS = [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]


@pytest.mark.parametrize("detector", ["content", "adaptive", "histogram", "hash"])
def test_detectors_find_the_shots_to_the_frame(detector, shots):
    pytest.importorskip("scenedetect")
    if detector == "hash":  # which sees outlines, and the drawn ones are alike
        assert find_shots(str(shots), ShotSettings(detector))[0][0] == 0
    else:
        assert np.allclose(find_shots(str(shots), ShotSettings(detector)), THIRDS)


def test_thresholds_and_shortest_shots_are_used(shots):
    pytest.importorskip("scenedetect")
    assert find_shots(str(shots), ShotSettings(threshold=250)) == [(0.0, 6.0)]
    assert len(find_shots(str(shots), ShotSettings(min_frames=25))) < 3


def test_fixed_parts_need_no_library(shots, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    parts = find_shots(str(shots), ShotSettings("fixed", seconds=2.5))
    assert np.allclose(parts, [(0.0, 2.5), (2.5, 5.0), (5.0, 6.0)])
    with pytest.raises(ImportError, match=r"internvideo-hf\[curation\]"):
        find_shots(str(shots), ShotSettings())


def test_lengths_are_left_out_and_counted_also_those_of_tables(shots, tmp_path):
    stage = Shots(tmp_path, ShotSettings("fixed", seconds=2.5, min_seconds=1.5, max_seconds=3))
    (tmp_path / "bad.mp4").write_text("no video")
    told = [{"start": 0, "end": 5}, {"start": 1, "end": 3}]
    rows = [{"video": str(shots), "segments": None}, {"video": "none.mp4", "segments": told}]
    found, given, bad = stage.run([*rows, {"video": str(tmp_path / "bad.mp4"), "segments": None}])
    assert [segment["end"] for segment in found["segments"]] == pytest.approx([2.5, 5.0])
    assert found["left_out"] == {"shorter than 1.5 s": 1}
    assert (given["segments"], given["left_out"]) == ([told[1]], {"longer than 3 s": 1})
    assert bad.source == str(tmp_path / "bad.mp4")


@pytest.mark.parametrize(
    "options",
    [{"detector": "contend"}, {"seconds": 0}, {"min_seconds": 3, "max_seconds": 2}, {"threshold": -1}]
    + [{"detector": "fixed", "threshold": 2}],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="detector|expected"):
        ShotSettings(**options)
