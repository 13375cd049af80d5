"""Shared layout constants and helpers for rendered images."""

from pathlib import Path

from PIL import Image, ImageFont

from internvideo_hf.utils.files import atomic_write, check_output, remove_leftovers_of
from internvideo_hf.utils.names import check_name

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that pictures are written to."""

GAP, LINE, FONT_SIZE = 8, 17, 13  # pixels: between things, of a line of text, of its letters
PAPER, INK, FAINT, MISSING = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)


def check_picture(path: str | Path) -> None:
    """Refuse a file whose suffix is not that of an image, or that cannot be written.

    Args:
        path: where an image is to be written.

    Raises:
        ValueError: naming the suffixes.
        OSError: see `check_output`.
    """
    check_name(Path(path).suffix.lower(), PICTURES, f"ending of {path}")
    check_output(path)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write an image atomically; its directory is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(path)
    atomic_write(path, picture.save)


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return a text, shortened with "..." to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
