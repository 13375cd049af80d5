"""Hits and their montage."""

import numpy as np
import pytest
from search.gallery import COLOURS, write

from internvideo_hf.search.hits import Hit, Hits, montage


def test_montage_of_a_video_that_is_gone_has_a_grey_tile(tmp_path):
    there = write(tmp_path / "there.mp4", ("blue", 5), size=(128, 224))
    hits = [Hit(str(there), 0.0, 0.5, 0.3, 0.9, 4.2, 0.995, 0.001, True), Hit("/gone.mp4", None, None, 0.2, 0.1)]
    sheet = montage(hits, columns=2, title="a long title " * 30)
    assert sheet.size == (8 + 2 * 264, 33 + 203)
    pixels = np.asarray(sheet).astype(int)
    assert np.abs(pixels[60:140, 60:200].mean(axis=(0, 1)) - COLOURS["blue"]).max() < 40
    assert (pixels[40, 300] == 225).all()
    with pytest.raises(ValueError, match="at least one"):
        montage([])
    assert Hits("q", tuple(hits), 9).matches is True
