"""Options of reading that a whole process shares: limits against files that would fill the memory, and HDR."""

import os
from dataclasses import dataclass, field
from typing import Any

HDR_MODES = ("tonemap", "ignore")


def _from_environment(name: str, default: Any) -> Any:
    """Return a field whose default is read from `INTERNVIDEO_<NAME>`, where that is set."""
    variable = f"INTERNVIDEO_{name.upper()}"

    def value() -> Any:
        text = os.environ.get(variable, "")
        if not text or isinstance(default, str):
            return text or default
        if not text.isdecimal():
            raise ValueError(f"{variable} is {text!r}, expected a whole number.")
        return int(text)

    return field(default_factory=value)


@dataclass(frozen=True)
class ReadOptions:
    """Limits of what is read, and the treatment of HDR.

    The environment variables `INTERNVIDEO_MAX_PIXELS`, `INTERNVIDEO_MAX_PICTURES` and `INTERNVIDEO_HDR` set the
    defaults of a process and its workers; the options `--max-pixels`, `--max-pictures` and `--hdr` of the program,
    before the command, do the same.

    Args:
        max_pixels: the most pixels (height x width) of a frame or image, by default 8192 x 8192.
        max_pictures: the most frames of an animated picture (GIF, APNG, WebP), by default 10000. Videos have no limit.
        hdr: "tonemap" maps videos of high dynamic range (PQ, HLG) to ordinary colors; "ignore" takes their values as
            if they were ordinary, as decoders without color management do.

    Raises:
        ValueError: if a number is below 1, or `hdr` is unknown.
    """

    max_pixels: int = _from_environment("max_pixels", 8192 * 8192)
    max_pictures: int = _from_environment("max_pictures", 10_000)
    hdr: str = _from_environment("hdr", "tonemap")

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.hdr not in HDR_MODES:
            raise ValueError(f"hdr is {self.hdr!r}, expected one of {', '.join(HDR_MODES)}")
