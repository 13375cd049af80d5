"""Hits and their montage."""

import numpy as np
import pytest
from PIL import ImageFont
from search.gallery import COLORS, write

from internvideo_hf.search.hits import Hit, Hits, montage
from internvideo_hf.utils.pictures import FONT_SIZE, contact_sheet, wrapped


def test_montage_of_a_video_that_is_gone_has_a_grey_tile(tmp_path):
    there = write(tmp_path / "there.mp4", ("blue", 5), size=(128, 224))
    hits = [Hit(str(there), 0.0, 0.5, 0.3, 0.9, 4.2, 0.995, 0.001, True), Hit("/gone.mp4", None, None, 0.2, 0.1)]
    sheet = montage(hits, columns=2, title="a long title " * 30)
    top = 8 + 3 * 17 + 8  # the title has three lines at most
    assert sheet.size == (8 + 2 * 264, top + 203)
    pixels = np.asarray(sheet).astype(int)
    assert np.abs(pixels[top + 30 : top + 110, 60:200].mean(axis=(0, 1)) - COLORS["blue"]).max() < 40
    assert (pixels[top + 10, 300] == 225).all()
    with pytest.raises(ValueError, match="at least one"):
        montage([])
    assert Hits("q", tuple(hits), 9).matches is True


def test_the_sentence_stands_above_one_hit_in_full():
    sentence = "a large blue arrow moves to the left over a dotted background"
    hit = [Hit("/gone.mp4", None, None, 0.2, 0.1)]
    narrow, plain = montage(hit, title=sentence), montage(hit)
    assert narrow.width == plain.width and narrow.height == plain.height + 2 * 17 + 8
    ink = (np.asarray(narrow.convert("L"))[: 8 + 2 * 17] < 128).any(axis=1)
    assert ink[8 : 8 + 17].any() and ink[8 + 17 :].any(), "both lines hold words"
    # The same words, drawn as lines of their own, leave the same pixels.
    lines = wrapped(sentence, ImageFont.load_default(FONT_SIZE), narrow.width - 16)
    assert " ".join(lines) == sentence and len(lines) == 2
    for number, line in enumerate(lines):
        alone = np.asarray(montage(hit, title=line))[8 : 8 + 17]
        assert (np.asarray(narrow)[8 + 17 * number : 25 + 17 * number] == alone).all()


def test_montage_marks_the_matches_without_color_alone(tmp_path, monkeypatch):
    path = str(write(tmp_path / "clip.mp4", ("blue", 5), size=(144, 256)))
    hits = [Hit(path, 0.0, 0.5, 0.3, 0.9, 4.2, 0.995, 0.001, matches) for matches in (True, False, None)]
    lines = []

    def draw(tiles, *arguments):
        lines.extend(text[:2] for _, text in tiles)
        return contact_sheet(tiles, *arguments)

    monkeypatch.setattr("internvideo_hf.search.hits.contact_sheet", draw)
    sheet = montage(hits, columns=3).convert("L")
    time = hits[0].time
    assert lines == [
        ["* 1. clip.mp4", f"{time}, match"],
        ["2. clip.mp4", f"{time}, no match"],
        ["3. clip.mp4", time],
    ]
    pictures = [np.asarray(sheet.crop((8 + 264 * i, 8, 8 + 264 * i + 256, 8 + 144))) for i in range(3)]
    # White letters on a dark badge, so that it is seen in gray; no picture of one color has both.
    assert [picture[2:24, 2:60].max() > 240 for picture in pictures] == [True, False, False]
    assert np.ptp(pictures[0][1:-1, 1].astype(int)) < 3 and pictures[0][60, 1] < 100
    assert (pictures[1] == pictures[2]).all()


def test_montage_tells_videos_of_one_name_apart(monkeypatch):
    hits = [Hit(f"/none/{folder}/clip.mp4", None, None, 0.3, 0.5) for folder in ("a", "b", "a")]
    names = []
    monkeypatch.setattr(
        "internvideo_hf.search.hits.contact_sheet", lambda tiles, *_: names.extend(text[0] for _, text in tiles)
    )
    montage(hits)
    assert names == ["1. a/clip.mp4", "2. b/clip.mp4", "3. a/clip.mp4"]
