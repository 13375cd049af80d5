"""What tells one video's content from another's: size and time first, all of its bytes where these do not decide.

And what tells one list of videos from another.
"""

import hashlib
import os
from pathlib import Path

from internvideo_hf.data.finding import list_folder
from internvideo_hf.utils.fingerprints import file_sha256, text_sha256
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path, is_stored, state_of
from internvideo_hf.video.sources import is_url


def stamp(video: str) -> tuple[int, int]:
    """Return size and modification time of a file, or of a folder's files together; `(-1, -1)` for http(s) addresses.

    In place of its time, an object of a store has a number of its entity tag, if the store gives one.

    Raises:
        OSError: if it does not exist.
    """
    if is_stored(video):
        return state_of(video)[:2]
    if is_url(video):
        return -1, -1
    path = Path(video)
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    statuses = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    return sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


def stamp_if_there(video: str) -> tuple[int, int]:
    """Return `stamp`, or `(-1, -1)` where there is nothing: the reader of the video reports that."""
    try:
        return stamp(video)
    except OSError:
        return -1, -1


def content_hash(video: str) -> str:
    """Hash all of a file, or all files of a folder with their names; of an http(s) address, itself.

    Of an object of a store, its size and entity tag are hashed, where the store gives one, and nothing is read.

    Raises:
        OSError: if it cannot be read.
    """
    if is_stored(video):
        return (state_of(video).content or _sha256(StoragePath(video)))[:32]
    path = Path(video)
    if is_url(video):
        return text_sha256(video)[:32]
    if not path.is_dir():
        return file_sha256(path)[:32]
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    return text_sha256("".join(f"{file.name} {content_hash(str(file))}\n" for file in files))[:32]


def list_sha256(path: str | AnyPath) -> str:
    """Return the SHA-256 of a list of videos: of the file, or of the names of a folder's videos and of their folders.

    Args:
        path: a list, or a folder of clips by class.
    """
    path = as_path(path)
    if isinstance(path, StoragePath):
        return text_sha256("".join(f"{name}\n" for name in path.files())) if path.is_dir() else _sha256(path)
    if not path.is_dir():
        return file_sha256(path)
    files = list_folder(path).videos
    return text_sha256("".join(f"{Path(file).relative_to(path).as_posix()}\n" for file in files))


def exists(video: str) -> bool:
    """Return whether a file, a folder or an object of a store exists; other addresses are not asked."""
    if is_stored(video):
        return StoragePath(video).exists()
    return is_url(video) or os.path.exists(video)


def _sha256(path: StoragePath) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
