"""Helpers of rendered images."""

import pytest
from PIL import Image, ImageFont

from internvideo_hf.utils.pictures import check_picture, fitted, save_picture, wrapped


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "b/c.webp"])
def test_images_are_written_with_their_directory(name, tmp_path):
    path = tmp_path / "new" / name
    check_picture(path)
    save_picture(Image.new("RGB", (4, 3), (255, 0, 0)), path)
    with Image.open(path) as image:
        assert image.size == (4, 3)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.txt"])
def test_other_suffixes_are_refused(name):
    with pytest.raises(ValueError, match=r"ending of .*: got '.*', expected one of \.png"):
        check_picture(name)


def test_texts_are_shortened_to_a_width():
    font = ImageFont.load_default(13)
    text = "a caption that is too long"
    width = int(font.getlength(text)) + 1
    assert fitted(text, font, width) == text
    short = fitted(text, font, width // 2)
    assert short.endswith("...") and text.startswith(short[:-3]) and font.getlength(short) <= width // 2
    assert fitted(text, font, 0) == "..."


def test_texts_are_broken_at_spaces_and_only_then_shortened():
    font = ImageFont.load_default(12)
    text = "circles around counterclockwise"
    first, second = font.getlength("circles around"), font.getlength("counterclockwise")
    width = int(max(first, second)) + 1
    assert wrapped(text, font, int(font.getlength(text)) + 1, 2) == [text]
    assert wrapped(text, font, width, 2) == ["circles around", "counterclockwise"]
    assert wrapped(text, font, width, 1) == [fitted(text, font, width)]
    assert wrapped(text, font, int(first) + 1, 2)[1].endswith("...")
    assert wrapped("", font, width, 2) == [""]
