"""Division of videos into clips."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from internvideo_hf.search.clips import Windowing, normalized, read_clips, windows


@pytest.mark.parametrize(
    ("duration", "window", "stride", "expected"),
    [
        (10, None, None, [(0, 10)]),
        (10, 4, None, [(0, 4), (4, 8), (8, 10)]),
        (9.5, 4, None, [(0, 4), (4, 9.5)]),  # what is left is short: the last window reaches over it
        (8, 4, None, [(0, 4), (4, 8)]),
        (3, 4, None, [(0, 3)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (11, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11)]),
        (4.5, 4, 1, [(0, 4), (1, 4.5)]),
    ],
)
def test_windows_cover_the_video(duration, window, stride, expected):
    assert windows(duration, Windowing(window, stride)) == expected


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({}, np.uint8), ({"num_clips": 2, "num_crops": 3}, np.uint8), ({"resize_method": "torch_bicubic"}, np.float32)],
)
def test_frames_come_small_and_become_what_the_processor_gives(small_folder, bikes, options, dtype):
    processor = AutoProcessor.from_pretrained(small_folder).video_processor
    processor.configure(options)
    found = read_clips((str(bikes), None), processor, Windowing())
    assert found.pixels.dtype == dtype
    expected = processor(videos=[str(bikes)], return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(normalized(found.pixels, found.blank, processor)[0], expected)
