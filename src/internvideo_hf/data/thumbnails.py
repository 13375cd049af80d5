"""Small pictures of videos."""

from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.failures import one_video
from internvideo_hf.utils.pictures import FONT_SIZE, GAP, INK, LINE, MISSING
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

TILE = (256, 144)  # width and height of a thumbnail in pixels


def thumbnail(
    video: str, start: float | None = None, end: float | None = None, size: tuple[int, int] = TILE
) -> Image.Image:
    """Return the frame in the middle of a clip, scaled down to fit.

    Args:
        video: path or address.
        start: where the clip begins, in seconds; None, as for `end`, for the whole video.
        end: where it ends.
        size: width and height in pixels.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    with VideoReader(video) as reader:
        frame = reader.num_frames // 2
        if start is not None and end is not None:
            times, middle = reader.timeline, (start + end) / 2
            frame = 0 if times is None else int(times.searchsorted(middle))
        picture = Image.fromarray(reader.read([min(frame, reader.num_frames - 1)])[0])
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    return picture


def spread_pictures(video: str, count: int) -> list[Image.Image]:
    """Return frames of a video in the middles of equal parts of it; the middle frame if there is one part.

    Args:
        video: path or address.
        count: frames, at least 1; a shorter video repeats some.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    with VideoReader(video) as reader:
        numbers = [(2 * part + 1) * reader.num_frames // (2 * count) for part in range(count)]
        return [Image.fromarray(frame) for frame in reader.read(numbers)]


def tile(video: str, start: float | None = None, end: float | None = None) -> Image.Image:
    """Return the thumbnail of a clip, or a gray tile that says so if its video cannot be read any more."""
    try:
        with one_video(video):
            return thumbnail(video, start, end)
    except VideoDecodeError:
        picture = Image.new("RGB", TILE, MISSING)
        place = (GAP, TILE[1] // 2 - LINE)
        ImageDraw.Draw(picture).text(place, "cannot be read any more", INK, ImageFont.load_default(FONT_SIZE))
        return picture
