"""Shared layout constants and helpers for rendered images."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont

from internvideo_hf.utils.files import atomic_write, check_output_file, remove_leftovers_of
from internvideo_hf.utils.names import check_name

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that pictures are written to."""

GAP, LINE, FONT_SIZE = 8, 17, 13  # pixels: between things, of a line of text, of its letters
_TITLE_LINES = 3  # of a contact sheet at most
PAPER, INK, FAINT, MISSING = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)
# Colors that people with color blindness tell apart (Okabe and Ito).
COLORS = tuple(
    ImageColor.getrgb(color)[:3]
    for color in ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B8A900")
)


def check_picture(path: str | Path) -> None:
    """Refuse a file whose suffix is not that of an image, or that cannot be written.

    Args:
        path: where an image is to be written.

    Raises:
        ValueError: naming the suffixes.
        OSError: see `check_output_file`.
    """
    check_name(Path(path).suffix.lower(), PICTURES, f"ending of {path}")
    check_output_file(path)


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


def wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int | None = None
) -> list[str]:
    """Return a text broken at spaces into lines, at most so many; a line beyond a width in pixels is shortened."""
    found = [""]
    for word in text.split():
        longer = f"{found[-1]} {word}".strip()
        if len(found) != lines and found[-1] and font.getlength(longer) > width:
            found.append(word)
        else:
            found[-1] = longer
    return [fitted(line, font, width) for line in found]


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, Sequence[str]]], size: tuple[int, int], columns: int, title: str | None = None
) -> Image.Image:
    """Draw pictures in rows, each with lines of text below, the first of them darker.

    Args:
        tiles: a picture and its lines, as many for each.
        size: width and height of the largest picture, in pixels.
        columns: pictures in a row.
        title: above all; broken into lines where the pictures are narrower, at most three.

    Raises:
        ValueError: if there are no tiles, or no columns.
    """
    if not tiles or columns < 1:
        raise ValueError(f"Got {len(tiles)} pictures and columns={columns}; a sheet needs at least one of each.")
    columns, rows = min(columns, len(tiles)), -(-len(tiles) // columns)
    font = ImageFont.load_default(FONT_SIZE)
    cell = (size[0] + GAP, size[1] + len(tiles[0][1]) * LINE + GAP)
    width = GAP + columns * cell[0]
    titles = wrapped(title, font, width - 2 * GAP, _TITLE_LINES) if title else []
    top = GAP + (len(titles) * LINE + GAP if titles else 0)
    sheet = Image.new("RGB", (width, top + rows * cell[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate(titles):
        draw.text((GAP, GAP + line * LINE), text, INK, font)
    for number, (picture, lines) in enumerate(tiles):
        left, upper = GAP + number % columns * cell[0], top + number // columns * cell[1]
        sheet.paste(picture, (left + (size[0] - picture.width) // 2, upper + (size[1] - picture.height) // 2))
        for line, text in enumerate(lines):
            place = (left, upper + size[1] + 2 + line * LINE)
            draw.text(place, fitted(text, font, size[0]), FAINT if line else INK, font)
    return sheet
