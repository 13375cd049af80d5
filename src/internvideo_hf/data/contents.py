"""What tells one video's content from another's: size and time first, all of its bytes where these do not decide.

And what tells one list of videos from another.
"""

import os
from pathlib import Path

from internvideo_hf.data.finding import list_folder
from internvideo_hf.utils.fingerprints import file_sha256, text_sha256
from internvideo_hf.video.sources import is_url


def stamp(video: str) -> tuple[int, int]:
    """Return size and modification time of a file, or of a folder's files together; `(-1, -1)` for addresses.

    Raises:
        OSError: if it does not exist.
    """
    if is_url(video):
        return -1, -1
    path = Path(video)
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    statuses = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    return sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


def content_hash(video: str) -> str:
    """Hash all of a file, or all files of a folder with their names; of an address, itself.

    Raises:
        OSError: if it cannot be read.
    """
    path = Path(video)
    if is_url(video):
        return text_sha256(video)[:32]
    if not path.is_dir():
        return file_sha256(path)[:32]
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    return text_sha256("".join(f"{file.name} {content_hash(str(file))}\n" for file in files))[:32]


def list_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a list of videos: of the file, or of the names of a folder's videos and of their folders.

    Args:
        path: a list, or a folder of clips by class.
    """
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    files = list_folder(path).videos
    return text_sha256("".join(f"{Path(file).relative_to(path).as_posix()}\n" for file in files))
