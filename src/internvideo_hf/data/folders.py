"""List the videos that files, folders, addresses and manifests name."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from internvideo_hf.data.finding import left_out_line, list_folder
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import MANIFEST_SUFFIXES
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
    found: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    for source in sources:
        if not is_url(source) and Path(source).suffix.lower() in MANIFEST_SUFFIXES:
            rows = read_manifest(source, data_root, check_files=False, check_labels=False, allow_duplicates=True)
            found |= dict.fromkeys(row["video"] for row in rows)
        elif not is_url(source) and os.path.isdir(source):  # False for names that no folder can have
            found |= dict.fromkeys(_videos_in(Path(source), left_out))
        else:
            found[source] = None
    if line := left_out_line(left_out):
        on_left_out(line)
    return list(found)


def _videos_in(folder: Path, left_out: Counter[str]) -> list[str]:
    listing = list_folder(folder)
    # Pictures beside videos are covers and the like.
    if not listing.videos and any(is_image_file(file) and file.name[0] != "." for file in folder.iterdir()):
        return [str(folder)]
    if not listing.videos:
        line = left_out_line(listing.left_out)
        raise ValueError(f"{folder} holds no videos (.mp4, .mkv, .mov, ...) and no frame files. {line} Name another.")
    left_out += listing.left_out
    return listing.videos
