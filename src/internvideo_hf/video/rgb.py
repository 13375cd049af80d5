"""From a decoded frame to the RGB picture that a player shows: orientation, fields, depth, HDR."""

import struct
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np

from internvideo_hf.video.hdr import is_hdr, tone_map


class Orientation(NamedTuple):
    """The steps from the stored picture to the one that is shown, in this order.

    Attributes:
        transposed: rows become columns.
        upside_down: the first row becomes the last.
        mirrored: the first column becomes the last.
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @property
    def is_rotation(self) -> bool:
        """Whether the steps together are a rotation, and no mirror image remains."""
        return (self.transposed + self.upside_down + self.mirrored) % 2 == 0

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return a view of `image`, `(height, width, 3)`, as it is shown."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return the orientation that a frame's display matrix asks for, in steps of 90 degrees."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    # A column and row (x, y) of the file are shown at (a x + c y, b x + d y), but for a shift.
    a, b, _, c, d, *_ = struct.unpack("=9i", memoryview(data))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, upside_down=b < 0, mirrored=c < 0)
    return Orientation(False, upside_down=d < 0, mirrored=a < 0)


def to_rgb(frame: av.VideoFrame, hdr: str = "tonemap", size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a frame as uint8 `(height, width, 3)`, upright, as FFmpeg's own tool converts it.

    Args:
        frame: a decoded frame.
        hdr: "tonemap" or "ignore", see `ReadSettings`.
        size: width and height to scale to before it is turned, `None` for its own.
    """
    if hdr == "tonemap" and is_hdr(frame.color_trc):
        image = tone_map(_filtered(frame, "rgb48le", size).to_ndarray(), frame.color_trc, frame.color_primaries)
    # For these PyAV's own conversion takes other rules than FFmpeg's filter, which the other decoders use, too: the
    # released loaders scale the chroma of both fields of interlaced pictures as that of one.
    elif size or frame.interlaced_frame or max(component.bits for component in frame.format.components) > 8:
        image = _filtered(frame, "rgb24", size).to_ndarray()
    else:
        # Bicubic as in FFmpeg's own tool and in torchcodec: it decides how chroma is scaled up for odd sizes.
        # PyAV starts threads for every frame it converts, which takes longer than to convert a small one.
        image = frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1)
    return orientation(frame).apply(image)


def _filtered(frame: av.VideoFrame, to: str, size: tuple[int, int] | None) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1)
    )
    scaled = "" if size is None else f"{size[0]}:{size[1]}:"
    scale, to_rgb = graph.add("scale", f"{scaled}flags=bicubic:interl=0"), graph.add("format", to)
    graph.link_nodes(source, scale, to_rgb, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()
