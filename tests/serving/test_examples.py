"""The examples of the description."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from internvideo_hf.serving.examples import EXAMPLES, IMAGE, VIDEO
from internvideo_hf.serving.models import ABILITIES
from internvideo_hf.video import VideoReader


def content(part: dict) -> bytes:
    return base64.b64decode(part[part["type"]]["url"].partition(",")[2])


def test_every_endpoint_has_examples():
    assert tuple(EXAMPLES) == ABILITIES and all(EXAMPLES.values())


def test_the_video_shows_what_the_texts_say_and_is_small():
    with VideoReader(content(VIDEO)) as reader:
        frames = reader.read(range(reader.num_frames)).astype(int)
        assert reader.duration == pytest.approx(48 * 0.04)
    red = frames[..., 0] - frames[..., 1] > 100
    middles = [np.nonzero(frame)[1].mean() for frame in red]
    assert np.diff(middles) == pytest.approx([1] * 47)
    assert len(VIDEO["video_url"]["url"]) < 12_000
    assert Image.open(io.BytesIO(content(IMAGE))).size == (8, 8)
