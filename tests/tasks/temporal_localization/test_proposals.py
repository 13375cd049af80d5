"""Readers of proposals: each layout gives the same segments."""

import json

import pytest
import torch

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_localization.proposals import read_proposals

ROWS = [(1.0, 2.5, 0.25, "run"), (3.0, 9.0, 0.75, "jump")]
BEST_FIRST = ([[3.0, 9.0], [1.0, 2.5]], [0.75, 0.25])


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def results(**videos) -> dict:
    rows = [{"segment": [start, end], "score": score, "label": label} for start, end, score, label in ROWS]
    return {"version": "1", "results": {"one": rows, "nothing": [], **videos}}


def localized(video: str) -> dict:
    names = ("start", "end", "score", "label")
    return {"video": video, "duration": 12.0, "segments": [dict(zip(names, row, strict=True)) for row in ROWS]}


@pytest.mark.parametrize("layout", ["activitynet", "localize", "bmn", "seconds"])
def test_every_layout_gives_the_same_segments(layout, tmp_path):
    if layout == "activitynet":
        path = write(tmp_path / "p.json", results())
    elif layout == "localize":
        path = write(tmp_path / "p.json", [localized("videos/one.mp4"), {"video": "x.mp4", "error": "it is damaged"}])
    else:
        path, parts = tmp_path / "p", 10 if layout == "bmn" else 1
        path.mkdir()
        names = "xmin,xmax,xmin_score,xmax_score,score" if layout == "bmn" else "start,end,a,b,score"
        lines = [f"{start / parts},{end / parts},1,1,{score}" for start, end, score, _ in ROWS]
        write(path / "v_one.csv", "\n".join([names, *lines]))
    found = read_proposals(path)
    for name in ("one", "v_one", "elsewhere/one.mp4"):
        segments, scores, labels = found.of(name, 10.0)
        torch.testing.assert_close(segments, torch.tensor(BEST_FIRST[0]))
        torch.testing.assert_close(scores, torch.tensor(BEST_FIRST[1]))
        expected = ["jump", "run"] if layout in ("activitynet", "localize") else []
        assert list(found.classes) == expected and labels.tolist() == ([0, 1] if expected else [0, 0])
    with pytest.raises(ManifestError, match="two: it has no proposals"):
        found.of("two", 10.0)


def test_no_proposals_are_none_and_equal_names_are_told_apart(tmp_path):
    assert len(read_proposals(write(tmp_path / "p.json", results())).of("nothing").scores) == 0
    rows = [localized("a/one.mp4"), {**localized("b/one.mp4"), "segments": []}]
    found = read_proposals(write(tmp_path / "q.json", rows))
    assert len(found.of("a/one.mp4").scores) == 2 and len(found.of("b/one.mp4").scores) == 0
    with pytest.raises(ManifestError, match="one: it has no proposals"):
        found.of("c/one.mp4")


def test_classes_get_the_numbers_of_the_annotations(tmp_path):
    found = read_proposals(write(tmp_path / "p.json", results()))
    assert found.numbered({0: "sit", 3: "run"}).of("one").labels.tolist() == [3]
    assert found.numbered({}).of("one").labels.tolist() == [0, 0]


BAD = {
    "text.json": ("{", "not valid JSON"),
    "number.json": ("5", "holds a int"),
    "rows.json": ({"results": {"a": 5}}, "a: its proposals are no list"),
    "empty.json": ({}, "it holds no videos"),
    "score.json": ({"results": {"a": [{"segment": [0, 1]}]}}, "a, segment 1: it lacks start, end or score"),
    "big.json": ({"results": {"a": [{"segment": [0, 10**400], "score": 1}]}}, "a, segment 1: it lacks start"),
    "columns/a.csv": ("xmin,score\n0,1", "its columns are not xmin, xmax and score"),
    "numbers/a.csv": ("start,end,score\n0,x,1", "it cannot be read"),
    "short/a.csv": ("start,end,score\n0", "it cannot be read"),
    "finite/a.csv": ("start,end,score\n0,nan,1", "its numbers are not all finite"),
    "seconds/a.csv": ("xmin,xmax,score\n0,90,1", "its xmax is 90, expected fractions"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_holds_no_proposals_is_refused(name, tmp_path):
    content, message = BAD[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    file = write(tmp_path / name, content)
    with pytest.raises(ManifestError, match=message):
        read_proposals(file if name.endswith(".json") else file.parent).of("a", 10.0)


def test_fractions_need_a_duration_and_folders_need_files(tmp_path):
    with pytest.raises(ManifestError, match="holds no .csv files"):
        read_proposals(tmp_path)
    write(tmp_path / "a.csv", "xmin,xmax,score\n0,1,1")
    with pytest.raises(ManifestError, match="duration, which is unknown"):
        read_proposals(tmp_path).of("a")
