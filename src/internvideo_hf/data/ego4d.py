"""Share what the annotation files of Ego4D's tasks have in common: the document, its fields, and the footage.

All files are JSON objects as the `ego4d` downloader stores them below `annotations/`, in version 1 and 2 of the data
set. `FILES` names the list of each: videos with clips inside, clips, or annotations. Times and frames stand in them
twice, relative to the exported clip and to the whole video, so that either file can be read (`find_footage`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError, is_finite, read_json
from internvideo_hf.utils.names import with_article

FILES = {
    "moments": "videos",
    "nlq": "videos",
    "fho_hands": "clips",
    "fho_scod": "clips",
    "fho_lta": "clips",
    "fho_sta": "annotations",
}
"""Task of Ego4D, as in the names of its files TASK_train.json, TASK_val.json, TASK_test_unannotated.json -> key of the
list in them."""

_ROOTS = ("", "v2", "v1")
_CLIP_FOLDERS = ("clips", "")
_VIDEO_FOLDERS = ("full_scale", "video_540ss", "")


@dataclass(frozen=True)
class Footage:
    """A file that shows an annotated clip.

    Attributes:
        path: of the file.
        is_clip: whether it is the exported clip (annotated by fields such as `clip_frame`, `start_time`), not the
            whole video (`frame`, `video_start_time`).
        offset: time in the file at which the clip begins, in seconds; 0 for the exported clip.
    """

    path: Path
    is_clip: bool
    offset: float


def read_annotations(path: str | Path, key: str) -> tuple[list[Record], Record]:
    """Read an annotation file of Ego4D, version 1 or 2.

    Args:
        path: the file, such as annotations/moments_train.json.
        key: its list: "videos", "clips" or "annotations", see `FILES`.

    Returns:
        The objects of the list in their order, and the whole document.

    Raises:
        ManifestError: if the file cannot be read, or is not an object with such a list.
    """
    document = read_json(Path(path))
    return list_in(document, key, path), document


def list_in(document: Any, key: str, path: str | Path) -> list[Record]:
    """Return the list of an annotation file of Ego4D whose content is known; see `read_annotations`.

    Args:
        document: the content.
        key: of the list.
        path: the file, for messages.

    Raises:
        ManifestError: if it is not an object with such a list.
    """
    tasks = " or ".join(f"{task}_train.json" for task, name in FILES.items() if name == key)
    advice = f"Give a file of Ego4D such as {tasks}, as the ego4d downloader stores it." if tasks else "Correct it."
    if not isinstance(document, dict):
        cause = f"it is {with_article(type(document).__name__)}, expected an object with the list {key!r}"
        raise ManifestError(str(path), None, cause, advice)
    entries = document.get(key)
    if not isinstance(entries, list):
        held = ", ".join(map(repr, list(document)[:10])) or "nothing"
        lists = [task for task, name in FILES.items() if isinstance(document.get(name), list)]
        kind = f"; a list {FILES[lists[0]]!r} is of {' or '.join(lists)}" if lists else ""
        raise ManifestError(str(path), None, f"it has no list {key!r}, but {held}{kind}", advice)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            cause = f"it is {with_article(type(entry).__name__)}, expected an object"
            raise ManifestError(str(path), f"{key} {number}", cause, "Download the file again.")
    return entries


def version_of(document: Mapping[str, Any]) -> str | None:
    """Return the version of the data set that a document states, "v1" or "v2"; None where it states neither.

    Args:
        document: a whole annotation file; short-term anticipation has the version in `info`.
    """
    info = document.get("info")
    stated = document.get("version", info.get("version") if isinstance(info, Mapping) else None)
    major = str(stated).strip().lower().removeprefix("v").split(".")[0]
    return f"v{major}" if major in ("1", "2") else None


def field_of(entry: Mapping[str, Any], *names: str, file: str | Path, place: str) -> Any:
    """Return a field that versions of the data set name differently, such as video_uid and video_id.

    Args:
        entry: an object of the file.
        names: of the field, the first that the object has counts. Null is no value.
        file: the annotation file, for the message.
        place: of the object in the file, such as "clip 3".

    Raises:
        ManifestError: if the object has none of them.
    """
    for name in names:
        if entry.get(name) is not None:
            return entry[name]
    held = ", ".join(map(repr, list(entry)[:12])) or "nothing"
    cause = f"it has no {' or '.join(map(repr, names))}, but {held}"
    raise ManifestError(str(file), place, cause, "Download the file again, or check that it is of this task.")


def text_of(entry: Mapping[str, Any], *names: str, file: str | Path, place: str) -> str:
    """Return a field that holds text and is not empty; see `field_of`."""
    value = field_of(entry, *names, file=file, place=place)
    if not isinstance(value, str) or not value.strip():
        raise ManifestError(str(file), place, f"{names[0]} is {value!r}, expected text", "Download the file again.")
    return value


def number_of(entry: Mapping[str, Any], *names: str, file: str | Path, place: str) -> float:
    """Return a field that holds a finite number, as a float; see `field_of`."""
    value = field_of(entry, *names, file=file, place=place)
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        cause = f"{names[0]} is {repr(value)[:60]}, expected a finite number"
        raise ManifestError(str(file), place, cause, "Download the file again.")
    return float(value)


def frame_of(entry: Mapping[str, Any], *names: str, file: str | Path, place: str) -> int:
    """Return a field that holds the index of a frame, a whole number from 0; see `field_of`."""
    value = number_of(entry, *names, file=file, place=place)
    if value < 0 or not value.is_integer():
        cause = f"{names[0]} is {value:g}, expected the index of a frame, from 0"
        raise ManifestError(str(file), place, cause, "Download the file again.")
    return int(value)


def list_of(entry: Mapping[str, Any], *names: str, file: str | Path, place: str) -> list[Record]:
    """Return a field that holds a list of objects; see `field_of`."""
    value = field_of(entry, *names, file=file, place=place)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        cause = f"{names[0]} is {str(value)[:60]!r}, expected a list of objects"
        raise ManifestError(str(file), place, cause, "Download the file again.")
    return value


def find_footage(folder: str | Path, clip_uid: str | None, video_uid: str | None, clip_start: float = 0.0) -> Footage:
    """Find the file of an annotated clip: the exported clip, or else the whole video.

    The folder is that of the `ego4d` downloader, with `clips/UID.mp4`, `full_scale/UID.mp4`, `video_540ss/UID.mp4`
    in it or below its `v2` or `v1`; or has the files themselves. No other file counts, whatever its name contains.

    Args:
        folder: where to look.
        clip_uid: of the exported clip; None where the annotation names none.
        video_uid: of the whole video; None to take the exported clip only.
        clip_start: time at which the clip begins in its video, in seconds (`video_start_sec`,
            `clip_parent_start_sec`).

    Raises:
        ValueError: if an id is not the name of a file, or there is neither.
        FileNotFoundError: if none of the files exists; names them.
    """
    folder = Path(folder)
    wanted = [(name, True) for name in _paths(clip_uid, _CLIP_FOLDERS)]
    wanted += [(name, False) for name in _paths(video_uid, _VIDEO_FOLDERS)]
    if not wanted:
        raise ValueError("The annotation names neither a clip nor a video. Check that the file is one of Ego4D.")
    for name, is_clip in wanted:
        if (path := folder / name).is_file():
            return Footage(path, is_clip, 0.0 if is_clip else clip_start)
    looked = ", ".join(name for name, _ in wanted if not name.startswith(_ROOTS[1:]))
    raise FileNotFoundError(
        f"There is none of {looked} in {folder}, nor below its v1 or v2. Give the folder that the ego4d downloader "
        "wrote, or one with the mp4 files themselves."
    )


def check_uid(uid: str) -> str:
    """Return an id that is a file's name without a folder, so that no annotation names a file elsewhere.

    Args:
        uid: of a clip or a video.

    Raises:
        ValueError: if it is something else.
    """
    if not isinstance(uid, str) or not uid.strip(" .") or any(sign in uid for sign in "/\\\0"):
        raise ValueError(f"{uid!r} is not an id of Ego4D: expected the name of a file without a folder.")
    return uid


def _paths(uid: str | None, folders: tuple[str, ...]) -> list[str]:
    if uid is None:
        return []
    name = f"{check_uid(uid)}.mp4"
    return ["/".join(part for part in (root, inner, name) if part) for inner in folders for root in _ROOTS]
