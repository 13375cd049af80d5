"""Examples of requests, which run as they stand: their video is part of them."""

import base64
import io
from typing import Any

from PIL import Image, ImageDraw

_SIZE, _FRAMES, _EACH = 64, 48, 40  # pixels, frames, milliseconds


def _clip() -> str:
    """Return a small animated picture of a dot that moves to the right, as a data: URL."""
    frames = []
    for number in range(_FRAMES):
        frame = Image.new("P", (_SIZE, _SIZE), 0)
        frame.putpalette([255, 255, 255, 200, 30, 30])
        ImageDraw.Draw(frame).rectangle((number, 24, number + 15, 39), fill=1)
        frames.append(frame)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=_EACH, loop=0)
    return f"data:image/gif;base64,{base64.b64encode(file.getvalue()).decode()}"


def _picture() -> str:
    file = io.BytesIO()
    Image.new("1", (8, 8), 1).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


VIDEO = {"type": "video_url", "video_url": {"url": _clip()}}
IMAGE = {"type": "image_url", "image_url": {"url": _picture()}}
_TEXT = "a red square moves to the right"

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "embeddings": {
        "texts": {"input": [_TEXT, "a blue circle grows"]},
        "a video, as the messages of vLLM": {"messages": [{"role": "user", "content": [VIDEO]}]},
        "a video, an image and a text, each embedded": {"input": [VIDEO, IMAGE, _TEXT], "encoding_format": "base64"},
    },
    "classify": {
        "given labels": {"input": VIDEO, "labels": ["moves to the right", "grows"], "template": "a square {}"},
        "the model's own labels": {"input": [VIDEO], "top_k": 3},
    },
    "search": {
        "a text": {"query": _TEXT, "top_k": 3},
        "a text, in a part of the clips": {"query": _TEXT, "per_video": 1, "where": "start < 60"},
        "a video": {"query": VIDEO},
    },
    "caption": {
        "a video": {"input": VIDEO},
        "the best token each time, after a beginning": {"input": VIDEO, "beams": 1, "text": "a small"},
    },
    "localize": {"a video": {"input": VIDEO, "threshold": 0.05}},
}
"""Endpoint below /v1 -> title -> request. Own labels are for classifiers, given ones for models of video and text."""
