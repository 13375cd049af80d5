"""List the videos that files, folders, addresses and manifests name."""

from collections.abc import Sequence
from pathlib import Path

from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.data.manifests import MANIFEST_SUFFIXES, read_manifest
from internvideo_hf.video.sources import is_url
from internvideo_hf.video.stills import is_image_file


def find_videos(sources: Sequence[str], data_root: str | Path | None = None) -> list[str]:
    """List the videos that some sources name, each once, in order.

    Args:
        sources: video files, addresses, folders of videos (searched recursively), folders of nothing but frame files
            (each one video), and manifests, recognized by their suffix.
        data_root: folder that relative paths of manifests start from.

    Raises:
        ManifestError: if a manifest is invalid. Paths need not exist.
        ValueError: if a folder holds no video.
    """
    found: dict[str, None] = {}
    for source in sources:
        if not is_url(source) and Path(source).suffix.lower() in MANIFEST_SUFFIXES:
            rows = read_manifest(source, data_root, check_files=False, check_labels=False, allow_duplicates=True)
            found |= dict.fromkeys(row["video"] for row in rows)
        elif not is_url(source) and Path(source).is_dir():
            found |= dict.fromkeys(_videos_in(Path(source)))
        else:
            found[source] = None
    return list(found)


def _videos_in(folder: Path) -> list[str]:
    videos = sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    # Pictures beside videos are covers and the like.
    if not videos and any(is_image_file(file) for file in folder.iterdir()):
        return [str(folder)]
    if not videos:
        raise ValueError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no frame files. Name another.")
    return videos
