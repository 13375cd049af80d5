"""Actions as subtitles, which any player shows, and in the layout of ActivityNet's results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.tasks.temporal_localization.annotations import to_results
from internvideo_hf.tasks.temporal_localization.localization import Localization
from internvideo_hf.utils.files import atomic_write_text
from internvideo_hf.utils.names import lookup, printable

Cue = tuple[float, float, str]

_ASS_HEAD = """[Script Info]
ScriptType: v4.00+
PlayResX: 1280
PlayResY: 720
WrapStyle: 2

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Sans,40,&H00FFFFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,2,20,20,30,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def to_vtt(found: Localization) -> str:
    """Return actions, and gaps, as WebVTT.

    Args:
        found: of a video.
    """
    cues = [f"{_clock(start, 3)} --> {_clock(end, 3)}\n{_vtt_text(text)}\n" for start, end, text in _cues(found)]
    return "\n".join(["WEBVTT\n", *cues])


def to_ass(found: Localization) -> str:
    """Return actions, and gaps, as Advanced SubStation Alpha.

    Args:
        found: of a video.
    """
    return _ASS_HEAD + "".join(
        f"Dialogue: 0,{_clock(start, 2, 1)},{_clock(end, 2, 1)},Default,,0,0,0,,{_ass_text(text)}\n"
        for start, end, text in _cues(found)
    )


FORMATS: dict[str, Callable[[Localization], str]] = {".vtt": to_vtt, ".ass": to_ass}
"""Ending of a file -> writes it."""


def save_subtitles(found: Localization, path: Path) -> None:
    """Write subtitles in the format that the ending names; the directory is created if missing.

    Args:
        found: of a video.
        path: of the file, .vtt or .ass.
    """
    write = lookup(FORMATS, path.suffix.lower(), "ending of the subtitles")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, write(found))


def to_activitynet(found: Mapping[str, Localization]) -> dict[str, Any]:
    """Return the actions of videos in the layout of ActivityNet's results.

    Args:
        found: id of a video -> its actions.
    """
    rows = [
        (name, action.label, action.score, (action.start, action.end))
        for name, one in found.items()
        for action in one.actions
    ]
    answer = to_results(rows)
    return answer | {"results": {name: answer["results"].get(name, []) for name in found}}


def _cues(found: Localization) -> Sequence[Cue]:
    actions = [(action.start, action.end, f"{action.label}  {action.score:.0%}") for action in found.actions]
    return sorted([*actions, *((start, end, "(the video is damaged)") for start, end in found.gaps)])


def _clock(seconds: float, digits: int, hours: int = 2) -> str:
    """Return a time such as 00:01:02.500, with digits of the fraction, and of the hours at least."""
    units = round(seconds * 10**digits)
    whole, rest = divmod(units, 10**digits)
    return f"{whole // 3600:0{hours}d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{rest:0{digits}d}"


def _vtt_text(text: str) -> str:
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ass_text(text: str) -> str:
    # Braces begin commands, and a backslash breaks lines.
    return printable(text).replace("\\", "/").replace("{", "(").replace("}", ")")
