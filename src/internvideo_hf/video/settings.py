"""Settings of reading that a whole process shares: limits against files that would fill the memory, and HDR."""

import os
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from internvideo_hf.utils.names import check_name

_T = TypeVar("_T")
_HDR = ("tonemap", "ignore")
PREFIX = "INTERNVIDEO_READ_"


@dataclass(frozen=True)
class ReadSettings:
    """Limits of what is read, and what becomes of HDR.

    The environment changes the defaults: `INTERNVIDEO_READ_MAX_PIXELS=268435456`, `INTERNVIDEO_READ_HDR=ignore`.

    Args:
        max_pixels: the most pixels (width x height) of a frame or image.
        max_pictures: the most frames of an animated picture (GIF, APNG, WebP). Videos have no limit.
        hdr: "tonemap" maps videos of high dynamic range (PQ, HLG) to ordinary colors; "ignore" takes their values as
            if they were ordinary, as decoders without color management do.

    Raises:
        ValueError: if a number is below 1, or `hdr` is unknown.
    """

    max_pixels: int = 8192 * 8192
    max_pictures: int = 10_000
    hdr: str = "tonemap"

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1")
        check_name(self.hdr, _HDR, "hdr")

    @classmethod
    def default(cls) -> "ReadSettings":
        """Return the defaults of this process: those of the environment.

        Raises:
            ValueError: if the environment holds an invalid value.
        """
        return from_environment(cls(), PREFIX)


def from_environment(settings: _T, prefix: str) -> _T:
    """Return settings with the values that environment variables give.

    Args:
        settings: a data class of numbers, truth values and texts.
        prefix: of the variables; `<prefix>MAX_PIXELS` is the field `max_pixels`.

    Raises:
        ValueError: if a variable holds no number where one is expected.
    """
    given: dict[str, Any] = {}
    for field in fields(settings):  # type: ignore[arg-type]  # a data class
        variable = prefix + field.name.upper()
        text, kind = os.environ.get(variable), type(getattr(settings, field.name))
        if text is None:
            continue
        try:
            given[field.name] = text if kind is str else kind(float(text))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{variable}={text!r}: expected a number ({error})") from error
    return replace(settings, **given)  # type: ignore[type-var]  # a data class
