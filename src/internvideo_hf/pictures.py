"""What pictures for a person have in common: where they may be written, and how lines of text fit into them."""

from pathlib import Path

from PIL import Image, ImageFont

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that pictures are written to."""

GAP, LINE, FONT_SIZE = 8, 17, 13  # pixels: between things, of a line of text, of its letters
PAPER, INK, FAINT, MISSING = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)


def check_picture(path: str | Path) -> None:
    """Refuse a file that is no picture by its ending.

    Raises:
        ValueError: naming the endings.
    """
    if Path(path).suffix.lower() not in PICTURES:
        raise ValueError(f"{path} must end in one of {', '.join(PICTURES)}.")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture so that it is there whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        picture.save(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text, cut at its end to so many pixels where it is longer."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
