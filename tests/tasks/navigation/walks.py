"""Paths with metrics that are known by hand."""

from internvideo_hf.tasks.navigation.paths import RecordedPath

# Two meters straight ahead in steps of half a meter, to the end of a straight reference of two meters.
STRAIGHT = RecordedPath(
    "straight",
    [[0.0, 0.0, -0.5 * step] for step in range(5)],
    True,
    [2.0, 1.5, 1.0, 0.5, 0.0],
    [0, 0, 0, 0],
    [0.0] * 5,
    [[0.0, 0.0, 0.0], [0.0, 0.0, -2.0]],
)
# Away from a goal four meters away, by three meters, with a collision; back in reach once, and never stopped.
LOST = RecordedPath(
    "lost",
    [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [3.0, 0.0, -1.0]],
    False,
    [4.0, 3.0, 5.0],
    [0, 1],
    [0.0, 0.0, -1.5],
    [[0.0, 0.0, 0.0], [0.0, 0.0, -4.0]],
)
