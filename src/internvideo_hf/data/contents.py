"""What tells one video's content from another's: size and time first, all of its bytes where these do not decide.

And what tells one list of videos from another.
"""

import hashlib
import os
from pathlib import Path

from internvideo_hf.data.class_folders import METADATA
from internvideo_hf.data.finding import list_folder
from internvideo_hf.data.shard_files import is_pattern, shards_of
from internvideo_hf.utils.fingerprints import ends_sha256, file_sha256, text_sha256
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path, is_stored, state_of
from internvideo_hf.video.members import read_member, split_member
from internvideo_hf.video.sources import is_url

_END = 1 << 20  # bytes at both ends of a file that may hold videos; parquet has the places of all values at its end
_WITH_VIDEOS = (".arrow", ".tar")


def stamp(video: str) -> tuple[int, int]:
    """Return size and modification time of a file, or of a folder's files together; `(-1, -1)` for http(s) addresses.

    In place of its time, an object of a store has a number of its entity tag, if the store gives one. Of a video in
    another file, they are those of the file.

    Raises:
        OSError: if it does not exist.
    """
    if (member := split_member(video)) is not None:
        video = member[0]
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

    Of an object of a store, its size and entity tag are hashed, where the store gives one, and nothing is read. Of a
    video in another file, its own bytes are.

    Raises:
        OSError: if it cannot be read.
    """
    content = read_member(video)
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:32]
    video = content
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

    A metadata.csv in the folder counts, too. Of shards, names, sizes, first and last bytes are hashed: videos may lie
    in them.

    Args:
        path: a list, a folder of clips by class, or what `shard_files.shards_of` takes.
    """
    path = as_path(path)
    if shards := shards_of(path) if is_pattern(path) or path.is_dir() else []:
        return text_sha256("".join(f"{shard.name} {_ends_sha256(shard)}\n" for shard in shards))
    if path.suffix.lower() in _WITH_VIDEOS:
        return _ends_sha256(path)
    if isinstance(path, StoragePath):
        return text_sha256("".join(f"{name}\n" for name in path.files())) if path.is_dir() else _sha256(path)
    if not path.is_dir():
        return file_sha256(path)
    names = [f"{Path(file).relative_to(path).as_posix()}\n" for file in list_folder(path).videos]
    about = next((file for name in METADATA if (file := path / name).is_file()), None)
    return text_sha256("".join([*names, *([] if about is None else [file_sha256(about)])]))


def exists(video: str) -> bool:
    """Return whether a file, a folder or an object of a store exists; other addresses are not asked.

    Of a video in another file, that file is asked for.
    """
    if (member := split_member(video)) is not None:
        video = member[0]
    if is_stored(video):
        return StoragePath(video).exists()
    return is_url(video) or os.path.exists(video)


def _ends_sha256(path: AnyPath) -> str:
    return content_hash(str(path)) if isinstance(path, StoragePath) else ends_sha256(path, _END)


def _sha256(path: StoragePath) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
