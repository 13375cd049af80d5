"""Frames of videos: reading, choosing, resizing. Knows numpy and torch, nothing of models."""

from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.masking import MASKS
from internvideo_hf.video.reader import VideoReader, available_backends
from internvideo_hf.video.sampling import BLANK, SAMPLERS, views
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.streams import StreamWindow, stream_windows
from internvideo_hf.video.transforms import RESIZE_METHODS, crop, resize_exact, resize_short_side

__all__ = [
    "BLANK",
    "MASKS",
    "RESIZE_METHODS",
    "SAMPLERS",
    "ReadSettings",
    "StreamWindow",
    "VideoDecodeError",
    "VideoReader",
    "available_backends",
    "crop",
    "resize_exact",
    "resize_short_side",
    "stream_windows",
    "views",
]
