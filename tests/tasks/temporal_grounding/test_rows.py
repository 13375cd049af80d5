"""Rows of features as time, by hand."""

import numpy as np

from internvideo_hf.tasks.temporal_grounding.rows import part_of_rows, row_edges, rows_between

EDGES = np.array([0.0, 2.0, 4.0, 7.0])  # of rows around 1, 3 and 5 seconds, of a video of 7


def test_rows_divide_the_time_of_a_video():
    assert row_edges(np.array([1.0, 3.0, 5.0]), 7.0).tolist() == EDGES.tolist()
    assert row_edges(np.array([1.0, 3.0, 5.0]), None).tolist() == [0, 2, 4, 6]
    assert row_edges(np.array([1.0]), None).tolist() == [0, 2] and row_edges(np.array([1.0]), 9.0).tolist() == [0, 9]
    # Frames of uneven length; a duration before the last middle is none.
    assert row_edges(np.array([1.0, 1.5, 5.0]), 4.0).tolist() == [0, 1.25, 3.25, 5]


def test_a_stretch_has_the_rows_whose_edges_are_nearest():
    assert rows_between(EDGES, 2.0, 7.0) == (1, 2) and rows_between(EDGES, 0.0, 1.2) == (0, 0)
    assert rows_between(EDGES, 0.9, 4.9) == (0, 1) and rows_between(EDGES, 1.1, 5.6) == (1, 2)
    # Shorter than a row: the one that it lies in.
    assert rows_between(EDGES, 4.1, 4.2) == (2, 2) and rows_between(EDGES, 3.0, 3.0) == (1, 1)
    assert rows_between(EDGES, 9.0, 12.0) == (2, 2) and rows_between(EDGES, 7.0, 7.0) == (2, 2)


def test_a_clip_has_the_rows_whose_middles_lie_in_it():
    middles = np.array([1.0, 3.0, 5.0, 7.0])
    assert part_of_rows(middles, 2.5, 6.0) == slice(1, 3) and part_of_rows(middles, 0.0, 99.0) == slice(0, 4)
    assert part_of_rows(middles, 3.2, 4.0) == slice(1, 2)  # none: the nearest
