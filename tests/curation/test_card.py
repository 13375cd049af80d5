"""The data card: counts, causes, numbers and pictures by hand."""

import sys

from PIL import Image

from internvideo_hf.curation.card import draw_histogram, write_card
from internvideo_hf.curation.stages import StageReport, Table
from internvideo_hf.data.record_files import write_records

REPORTS = [StageReport("plan", 4, 4, 0), StageReport("shots", 4, 3, 2), StageReport("clips", 3, 3, 0)]


def make(tmp_path):
    failed = [{"video": f"{n}.mp4", "cause": f"{n}.mp4 is | damaged"} for n in range(2)]
    write_records(tmp_path / "failures/shots.jsonl", failed)
    write_records(tmp_path / "stages/shots.jsonl", [{"left_out": {"shorter than 1 s": 2}}, {"left_out": {}}])
    rows = [
        {"clip": "a", "start": 1.0, "end": 2.0 + n, "caption": ["a dog", "a big dog", None][n], "similarity": 0.1 * n}
        for n in range(3)
    ]
    path = tmp_path / "stages/clips.jsonl"
    write_card(tmp_path, Table(path, write_records(path, rows)), REPORTS, {"cut": "exact"}, {"here": 4, "clips": 0})
    return (tmp_path / "README.md").read_text()


def test_the_card_says_what_came_in_and_out_and_why_the_rest_failed(tmp_path):
    text = make(tmp_path)
    assert "3 rows came out of the last stage, `clips`.\n\nThe plan: 4 here, 0 clips." in text
    assert "| shots | 4 | 3 | 2 |" in text and "Shots that were left out: 2 shorter than 1 s." in text
    assert "| shots | ... is / damaged | 2 |" in text  # one cause, whatever the file is called
    assert "Median 2 seconds, 5 to 95 % from 1 to 3, 0.00 hours in all." in text
    assert '```json\n{\n "cut": "exact"\n}\n```' in text
    for name in ("clip_seconds", "caption_words", "similarity"):
        assert f"![{name}.png]" not in text and f"({name}.png)" in text
        assert Image.open(tmp_path / f"{name}.png").size == (600, 350)
    assert "aesthetic" not in text and not (tmp_path / "aesthetic_score.png").exists()


def test_without_matplotlib_there_are_numbers_and_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = make(tmp_path)
    assert "Median 2 seconds" in text and ".png" not in text and not list(tmp_path.glob("*.png"))
    assert not draw_histogram("similarity", [1.0], tmp_path)
