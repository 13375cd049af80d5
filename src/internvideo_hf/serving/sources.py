"""Videos of requests: which addresses are taken, and how a decoder opens them."""

import base64
import binascii
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.limits import Access, Limits
from internvideo_hf.utils.names import printable
from internvideo_hf.video import VideoReader
from internvideo_hf.video.downloads import Download, DownloadSettings
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe, first_bytes

_TAKEN = "Give an http(s) address, a data: URL in base64, or upload the file (multipart/form-data)."
# Begin of a file -> the ending by which readers know it as an image.
_IMAGES = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"BM", ".bmp"))
_WEBP = (b"RIFF", b"WEBP")


class LimitError(VideoDecodeError):
    """A video is beyond a limit of the service; its advice is for clients."""


@dataclass(frozen=True)
class Source:
    """A video of a request, as a decoder gets it.

    Args:
        address: path of a file, or an http(s) address.
        name: of the video in messages.
        folder: of the request, for what is fetched; deleted when it ends.
    """

    address: str
    name: str
    folder: str


def source_of(url: str, name: str, folder: Path, access: Access, limits: Limits) -> Source:
    """Return the video that an address of a request names.

    Args:
        url: http(s), data:, or file: of an allowed folder.
        name: of the field, for messages.
        folder: of the request.
        access: what may be named.
        limits: of the size.

    Raises:
        RequestError: if such an address is not taken.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        return _of_data(url, name, folder, limits)
    if scheme in ("http", "https"):
        return Source(url, f"{name} ({describe(url)})", str(folder))
    if scheme == "file":
        return _of_path(url, name, folder, access)
    if "://" in url:
        raise _refused(name, f"{printable(scheme[:20])}:// addresses are not taken. {_TAKEN}")
    raise _refused(name, f"it is no address that is taken. {_TAKEN}")


def own_file(folder: Path) -> Path:
    """Return a new file in the folder of a request."""
    handle, path = tempfile.mkstemp(prefix="video-", dir=folder)
    os.close(handle)
    return Path(path)


def named(path: Path) -> Path:
    """Give a file of a request the ending by which readers know an image, and return its path.

    Not in a decoder, where a second attempt would look for the first name.

    Args:
        path: the complete file.
    """
    return path.rename(path.with_suffix(_image_suffix(path)))


def is_remote(source: Source) -> bool:
    """Return whether a video is to be fetched before a decoder can open it."""
    return source.address.partition(":")[0].lower() in ("http", "https")


def fetch(source: Source, access: Access, limits: Limits) -> Source:
    """Fetch a video into the folder of its request.

    A server that is slow must keep no decoder waiting, and to fetch parses nothing: so it is done where requests are
    answered.

    Args:
        source: of an http(s) address.
        access: hosts that may have private addresses.
        limits: of size and time.

    Raises:
        VideoDecodeError: if it cannot be fetched, or must not be.
    """
    settings = DownloadSettings(
        timeout=min(30.0, limits.video_timeout), deadline=limits.video_timeout, max_bytes=limits.max_bytes
    )
    folder = Path(source.folder)
    try:
        download = Download(source.address, settings, allowed=access.hosts, folder=folder)
        path = named(download.path.rename(own_file(folder)))
    except VideoDecodeError as error:
        raise VideoDecodeError(source.name, error.cause, error.advice) from error
    return Source(str(path), source.name, source.folder)


@contextmanager
def opened(source: Source, backend: str, limits: Limits) -> Iterator[VideoReader]:
    """Open a video in a decoder.

    Args:
        source: the video, a file.
        backend: decoder, see `VideoReader`.
        limits: of sizes.

    Raises:
        VideoDecodeError: if it cannot be read, or is larger or longer than a limit.
    """
    tempfile.tempdir = source.folder  # a decoder that is killed leaves nothing elsewhere
    path = Path(source.address)
    if path.stat().st_size > limits.max_bytes:
        cause = f"it has {path.stat().st_size} bytes, and at most {limits.max_bytes} are taken"
        raise LimitError(source.name, cause, "Send a smaller file.")
    with VideoReader(path, backend=backend) as reader:
        _check(reader, source.name, limits)
        yield reader


def _check(reader: VideoReader, name: str, limits: Limits) -> None:
    if reader.num_frames > limits.max_frames:
        cause = f"it has {reader.num_frames} frames, and at most {limits.max_frames} are taken"
        raise LimitError(name, cause, "Send a shorter part.")
    if (reader.duration or 0) > limits.max_seconds:
        cause = f"it has {reader.duration:.1f} seconds, and at most {limits.max_seconds:g} are taken"
        raise LimitError(name, cause, "Send a shorter part.")


def _of_data(url: str, name: str, folder: Path, limits: Limits) -> Source:
    head, comma, content = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise _refused(name, "a data: URL must read data:video/mp4;base64,CONTENT.")
    if len(content) > limits.max_bytes * 4 // 3 + 4:
        raise _too_large(name, len(content) * 3 // 4, limits)
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(name, f"the content of the data: URL is not base64 ({error}).") from error
    path = own_file(folder)
    path.write_bytes(decoded)
    return Source(str(named(path)), name, str(folder))


def _of_path(url: str, name: str, folder: Path, access: Access) -> Source:
    if not access.folders:
        raise _refused(name, f"files of this server are not taken. {_TAKEN}")
    try:
        parts = urlsplit(url)
        path = Path(os.path.realpath(url2pathname(parts.path), strict=True))
        is_inside = parts.netloc in ("", "localhost") and any(path.is_relative_to(own) for own in access.folders)
        is_file = path.is_file()
    except (OSError, ValueError):
        is_inside = is_file = False
    # One answer for what is not there and for what is elsewhere, or it would tell which files there are.
    if not is_inside or not is_file:
        raise _refused(name, "there is no such file in the folders of --allow-dir.")
    return Source(str(path), f"{name} ({printable(path.name)})", str(folder))


def _image_suffix(path: Path) -> str:
    head = first_bytes(path, 16)
    if head[:4] == _WEBP[0] and head[8:12] == _WEBP[1]:
        return ".webp"
    return next((suffix for begin, suffix in _IMAGES if head.startswith(begin)), ".video")


def _refused(name: str, message: str) -> RequestError:
    return RequestError(f"{name}: {message}", code="address_refused", param=name)


def _too_large(name: str, size: int, limits: Limits) -> RequestError:
    message = f"{name}: it has {size} bytes, and at most {limits.max_bytes} are taken."
    return RequestError(message, 413, "too_large", name)
