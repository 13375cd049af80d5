"""List the videos that files, folders, addresses and manifests name."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from internvideo_hf.data.finding import left_out_line, list_folder
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import MANIFEST_SUFFIXES
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.video.sources import is_url
from internvideo_hf.video.stills import is_image_file


def find_videos(
    sources: Sequence[str],
    data_root: str | Path | None = None,
    *,
    on_left_out: Callable[[str], object] = lambda line: None,
) -> list[str]:
    """List the videos that some sources name, each once, in order.

    Args:
        sources: video files, addresses, folders of videos (searched recursively, see `finding.list_folder`), folders
            of nothing but frame files (each one video), and manifests, recognized by their suffix.
        data_root: folder that relative paths of manifests start from.
        on_left_out: called with one line about the entries of folders that are no videos, if there are any.

    Raises:
        ManifestError: if a manifest is invalid. Paths need not exist.
        ValueError: if a folder holds no video.
    """
    return list(dict(name_videos(sources, data_root, on_left_out=on_left_out)))


def name_videos(
    sources: Sequence[str],
    data_root: str | Path | None = None,
    *,
    on_left_out: Callable[[str], object] = lambda line: None,
    keep_empty: bool = False,
) -> list[tuple[str, str]]:
    """List the videos that some sources name, as often as they do, with a name for each below its source.

    Args:
        sources: as of `find_videos`.
        data_root: as of `find_videos`.
        on_left_out: as of `find_videos`.
        keep_empty: take a folder without videos for one video that cannot be read, so that it fails alone.

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
        if not is_url(source) and Path(source).suffix.lower() in MANIFEST_SUFFIXES:
            rows = read_manifest(source, data_root, check_files=False, check_labels=False, allow_duplicates=True)
            root, videos = data_root or Path(source).parent, list(dict.fromkeys(row["video"] for row in rows))
        elif not is_url(source) and os.path.isdir(source):  # False for names that no folder can have
            root, videos = source, _videos_in(Path(source), left_out, keep_empty)
        else:
            root, videos = "", [source]
        found += [(video, _name_below(video, root)) for video in videos]
    if line := left_out_line(left_out):
        on_left_out(line)
    return found


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


def _name_below(video: str, root: str | Path) -> str:
    below = "" if is_url(video) or not root else os.path.relpath(video, root)
    return Path(video).name if below in ("", os.curdir) or below.startswith(os.pardir) else below


def _videos_in(folder: Path, left_out: Counter[str], keep_empty: bool) -> list[str]:
    listing = list_folder(folder)
    # Pictures beside videos are covers and the like.
    if not listing.videos and any(is_image_file(file) and file.name[0] != "." for file in folder.iterdir()):
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
