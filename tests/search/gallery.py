"""Small videos to search, and a count of decoded ones."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from internvideo_hf.search import embedding

RATE = 10
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (120, 120, 120)}


def picture(color: str, height: int = 32, width: int = 48) -> np.ndarray:
    """One frame: a color with its own pattern, so that even random weights tell them apart."""
    y, x = np.mgrid[0:height, 0:width]
    pattern = np.sin((x if color in ("red", "blue") else y) / (2 + 3 * list(COLORS).index(color)))
    return np.clip(np.array(COLORS[color]) + 60 * pattern[..., None], 0, 255).astype(np.uint8)


def write(path: Path, *scenes: tuple[str, int], size: tuple[int, int] = (32, 48)) -> Path:
    """Write a video of scenes, each a color and its number of frames at 10 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.thread_count = 1
        for number, color in enumerate(color for color, frames in scenes for _ in range(frames)):
            frame = av.VideoFrame.from_ndarray(picture(color, *size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def gallery(folder: Path) -> Path:
    """Three videos of one scene each, and one of two."""
    write(folder / "red.mp4", ("red", 12))
    write(folder / "green.mp4", ("green", 12))
    write(folder / "deep/blue.mkv", ("blue", 12))
    write(folder / "two.mp4", ("grey", 20), ("green", 20))
    return folder


class Decodes(list):
    """The pieces of videos that an index decodes from now on, in this process."""

    def __init__(self, monkeypatch):
        super().__init__()
        read = embedding.read_clips

        def counted(task, **options):
            self.append((Path(task[0]).name, task[1]))
            return read(task, **options)

        monkeypatch.setattr(embedding, "read_clips", counted)

    def names(self) -> list[str]:
        """Files that were decoded since the last question, sorted."""
        names = sorted({name for name, _ in self})
        self.clear()
        return names
