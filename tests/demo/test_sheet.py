"""The contact sheet of the tour; `test_tour.py` draws one with the models."""

import numpy as np
from PIL import Image

from internvideo_hf.demo import sheet


def test_the_sheet_holds_all_parts_in_their_order():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    parts = [
        sheet.Part("title", Image.new("RGB", (300 + 10 * n, 40), color), {}, {}) for n, color in enumerate(colors)
    ]
    drawn = np.asarray(sheet.stacked(parts))
    places = [np.flatnonzero((drawn == color).all(axis=-1).any(axis=1)) for color in colors]
    assert [len(rows) for rows in places] == [40] * 3 and drawn.shape[1] == 320
    assert places[0][-1] < places[1][0] and places[1][-1] < places[2][0] < len(drawn) - 50
