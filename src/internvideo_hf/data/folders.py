"""List the videos that files, folders, addresses and manifests name."""

import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from internvideo_hf.data.class_folders import METADATA
from internvideo_hf.data.contents import exists
from internvideo_hf.data.failures import shown_name
from internvideo_hf.data.finding import VIDEO_SUFFIXES, left_out_line, list_folder
from internvideo_hf.data.layouts import FILE_NAMES
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import MANIFEST_SUFFIXES, ManifestError, read_records
from internvideo_hf.data.shard_files import SPLIT_NAMES, shards_of
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.utils.storage import NAMED_SCHEMES, AnyPath, as_path, check_address, is_stored
from internvideo_hf.video.members import split_member
from internvideo_hf.video.sources import describe, is_url
from internvideo_hf.video.stills import is_image_file

_ANY_ROWS = {"check_files": False, "check_labels": False, "allow_duplicates": True}
_BOOLEANS = {"true": True, "false": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")


def find_videos(
    sources: Sequence[str],
    data_root: str | AnyPath | None = None,
    *,
    on_left_out: Callable[[str], object] = lambda line: None,
    metadata: dict[str, dict[str, Any]] | None = None,
) -> list[str]:
    """List the videos that some sources name, each once, in order.

    Args:
        sources: video files, addresses, folders of videos (searched recursively, see `finding.list_folder`), folders
            of nothing but frame files (each one video), and manifests, recognized by their suffix; also patterns of
            manifests, and folders of shards of parquet. Folders and manifests may be in object stores.
        data_root: folder that relative paths of manifests start from.
        on_left_out: called with one line about the entries of folders that are no videos, if there are any.
        metadata: takes the other columns of manifests, by video, see `read_metadata`, and of a metadata.csv in a
            folder, or in its folders of splits; None refuses such columns.

    Raises:
        ManifestError: if a manifest is invalid. Paths need not exist.
        ValueError: if a folder holds no video, or an address is of a scheme that is not read.
        ImportError: if the package of an object store is missing.
        OSError: if an object store cannot be asked for a folder.
    """
    used: Counter[str] = Counter()
    if metadata is not None:
        for source in sources:
            if _is_manifest(source):
                metadata.update(read_metadata(source, data_root))
            elif is_folder(source):
                for file, content in _folder_metadata(as_path(source), on_left_out):
                    metadata.update(content)
                    used[file.suffix] += 1
    found = name_videos(sources, data_root, on_left_out=on_left_out, extra_columns=metadata is not None, used=used)
    return list(dict(found))


def check_some_exist(videos: Sequence[str]) -> None:
    """Refuse videos of which none exists, before the work begins: the fault is none of a video.

    Args:
        videos: paths and addresses; those of http(s) are not asked for.

    Raises:
        FileNotFoundError: if there is none of them.
    """
    if not videos or any(map(exists, videos)):
        return
    if len(videos) == 1:
        raise FileNotFoundError(f"{shown_name(videos[0])}: no such file or folder. Check the path.")
    raise FileNotFoundError(
        f"None of the {len(videos)} videos exists, such as {shown_name(videos[0])}. Check the paths, and where they "
        "start from."
    )


def name_videos(
    sources: Sequence[str],
    data_root: str | AnyPath | None = None,
    *,
    on_left_out: Callable[[str], object] = lambda line: None,
    keep_empty: bool = False,
    extra_columns: bool = False,
    used: Mapping[str, int] = MappingProxyType({}),
) -> list[tuple[str, str]]:
    """List the videos that some sources name, as often as they do, with a name for each below its source.

    Args:
        sources: as of `find_videos`.
        data_root: as of `find_videos`.
        on_left_out: as of `find_videos`.
        keep_empty: take a folder without videos for one video that cannot be read, so that it fails alone.
        extra_columns: let manifests have columns that mean nothing for videos.
        used: suffix -> number of files in folders that are no videos, and not left out.

    Returns:
        Each video, and its path below the folder that was named, or below the data root of the list; its file name
        otherwise.

    Raises:
        ManifestError: as `find_videos`.
        ValueError: as `find_videos`, unless `keep_empty`.
    """
    found: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    for source in sources:
        _check_scheme(source)
        if _is_manifest(source):
            path = as_path(source)
            root = data_root or (path if is_folder(source) else path.parent)
            lists = _lists_of(source)
            rows = (
                row for one in lists for row in read_manifest(one, data_root, **_ANY_ROWS, drop_extra=extra_columns)
            )
            videos = list(dict.fromkeys(row["video"] for row in rows))
        elif is_folder(source):
            root, videos = source, _videos_in(as_path(source), left_out, keep_empty)
        else:
            root, videos = "", [source]
        found += [(video, _name_below(video, root)) for video in videos]
    if line := left_out_line(left_out - Counter(used)):
        on_left_out(line)
    return found


def read_metadata(manifest: str, data_root: str | AnyPath | None = None) -> dict[str, dict[str, Any]]:
    """Return what a list of videos says of each besides the file: text, numbers, true and false.

    Names of columns come out in small letters, with `_` for all but letters and digits. A column of text is one of
    numbers if all of its entries are, or of true and false. Empty entries, lists and objects are left out. Of several
    rows of a video, the first counts.

    Args:
        manifest: the list.
        data_root: as of `find_videos`.

    Returns:
        Columns without a meaning for videos, by the video as `find_videos` names it.

    Raises:
        ManifestError: if the manifest is invalid.
    """
    found: dict[str, dict[str, Any]] = {}
    lists = _lists_of(manifest)
    for row in (row for one in lists for row in read_manifest(one, data_root, **_ANY_ROWS, keep_extra=True)):
        values = {re.sub(r"\W+", "_", name.strip().lower(), flags=re.ASCII): v for name, v in row["extra"].items()}
        kept = {name: _plain(value) for name, value in values.items() if isinstance(value, str | int | float)}
        found.setdefault(row["video"], {name: value for name, value in kept.items() if value not in (None, "")})
    for column in {name for values in found.values() for name in values}:
        _parse_column([values for values in found.values() if column in values], column)
    return found


def _folder_metadata(
    folder: AnyPath, on_left_out: Callable[[str], object]
) -> Iterator[tuple[AnyPath, dict[str, dict[str, Any]]]]:
    """Yield each metadata.csv of a "videofolder" and what it says; one that cannot be read is of something else."""
    splits = [entry for entry in folder.iterdir() if entry.name.lower() in SPLIT_NAMES] if folder.is_dir() else []
    for place in [folder, *splits]:
        for file in [file for name in METADATA if (file := place / name).is_file()][:1]:
            try:
                _, first = next(read_records(file), ("", {}))
                if not any(name.strip().lower() in FILE_NAMES for name in first):
                    raise ManifestError(str(file), None, "there is no file_name", "Name the list that is meant.")
                content = read_metadata(str(file))
            except ManifestError as error:
                on_left_out(f"No metadata: {error}")
            else:
                yield file, content


def _plain(value: str | float) -> str | float | None:
    if isinstance(value, str):  # what no database holds
        return value.strip().replace("\0", "").encode(errors="replace").decode()
    return value if isinstance(value, bool) else float(value) if math.isfinite(value) else None


def _parse_column(rows: Sequence[dict[str, Any]], column: str) -> None:
    """Turn text into numbers, or true and false, where the whole column is such text; mixed columns become text."""
    texts = [row[column] for row in rows]
    if all(isinstance(value, str) for value in texts):
        if all(text.lower() in _BOOLEANS for text in texts):
            parsed: list[Any] = [_BOOLEANS[text.lower()] for text in texts]
        elif all(_NUMBER.fullmatch(text) for text in texts):
            parsed = [float(text) for text in texts]
        else:
            return
    elif len({type(value) for value in texts}) > 1:
        parsed = [str(value) for value in texts]
    else:
        return
    for row, value in zip(rows, parsed, strict=True):
        row[column] = value


def _check_scheme(source: str) -> None:
    """Refuse a named address that nothing here reads, before the work begins."""
    if is_stored(source):
        check_address(source)
    elif is_url(source) and not source.lower().startswith(("http://", "https://")):
        scheme = source.partition("://")[0]
        raise ValueError(f"{describe(source)}: {scheme} addresses are not read. Expected http(s)://, {NAMED_SCHEMES}.")


def _is_manifest(source: str) -> bool:
    if is_url(source) and not is_stored(source):
        return False
    path = as_path(source)
    return path.suffix.lower() in MANIFEST_SUFFIXES or (is_folder(source) and bool(shards_of(path)))


def _lists_of(source: str) -> list[AnyPath]:
    """Return the lists of a folder of shards, of all splits that it holds; a list as it is."""
    path = as_path(source)
    return shards_of(path) if is_folder(source) else [path]


def is_folder(source: str) -> bool:
    """Return whether a source is a folder: of the disk if it exists, of a store if its name is none of a file.

    Args:
        source: as of `find_videos`.
    """
    if is_stored(source):
        if split_member(source) is not None:
            return False
        suffix = as_path(source).suffix.lower()
        return source.endswith("/") or suffix not in (*VIDEO_SUFFIXES, *MANIFEST_SUFFIXES)
    return not is_url(source) and os.path.isdir(source)  # False for names that no folder can have


def unique_videos(named: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each video once, with a name that no other one has: those of equal names begin at a folder further up.

    Args:
        named: from `name_videos`.
    """
    once: dict[str, tuple[str, str]] = {}
    for video, name in named:
        once.setdefault(video if is_url(video) else os.path.abspath(video), (video, name))
    videos, names = [video for video, _ in once.values()], [name for _, name in once.values()]
    return list(zip(videos, distinct_names(videos, names), strict=True))


def _name_below(video: str, root: str | AnyPath) -> str:
    if is_stored(video):
        top = f"{str(as_path(root)).rstrip('/')}/" if root else ""
        below = posixpath.normpath(video.removeprefix(top)) if top and video.startswith(top) else ""
    else:
        below = "" if is_url(video) or not root else os.path.relpath(video, root)
    return Path(video).name if below in ("", os.curdir) or below.startswith(os.pardir) else below


def _videos_in(folder: AnyPath, left_out: Counter[str], keep_empty: bool) -> list[str]:
    listing = list_folder(folder)
    # Pictures beside videos are covers and the like.
    if (
        not listing.videos
        and isinstance(folder, Path)
        and any(is_image_file(file) and file.name[0] != "." for file in folder.iterdir())
    ):
        return [str(folder)]
    if not listing.videos and keep_empty:
        return [str(folder)]
    if not listing.videos:
        said = (
            f"{folder} holds no videos (.mp4, .mkv, .mov, ...) and no frame files.",
            left_out_line(listing.left_out),
        )
        raise ValueError(" ".join([*filter(None, said), "Name another."]))
    left_out += listing.left_out
    return listing.videos
