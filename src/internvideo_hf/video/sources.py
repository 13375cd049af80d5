"""Sources of videos: names for messages, and checks of paths and addresses."""

import os
import re
import stat
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import SplitResult, urlsplit

from PIL import Image

from internvideo_hf.utils.names import reason_of
from internvideo_hf.video.errors import VideoDecodeError

CHECK_THE_FILE = "Check that the file is complete and is a video; `ffprobe` shows what it holds."
CHECK_THE_ADDRESS = "Check the address in a browser, or download the file and pass its path."
_LONGEST_LABEL = 200


def describe(source: Any) -> str:
    """Return a short text for messages that names `source` and never quotes its content.

    Args:
        source: anything that `VideoReader` accepts, or a reader.
    """
    if (row := encoded_video(source)) is not None:
        source = row["path"] or row["bytes"] or ""
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    if isinstance(source, list | tuple):
        return f"<{len(source)} images>"
    if isinstance(source, Image.Image):
        return "<image>"
    if hasattr(source, "shape"):
        return f"<frames {tuple(source.shape)}>"
    if hasattr(source, "read"):  # an open file, or a reader
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "<file object>"
    if not isinstance(source, str | os.PathLike):
        return f"<{type(source).__name__}>"
    text = os.fspath(source)
    if is_url(text):
        # Signed addresses carry their secret in the query, others in the user part.
        try:
            parts = urlsplit(text)
            text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            scheme, _, rest = re.split(r"[?#]", text)[0].partition("://")
            text = f"{scheme}://{rest.rpartition('@')[2]}"
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}..."


def first_bytes(file: str | Path | bytes, size: int) -> bytes:
    """Return the first bytes of a file or of its content; none of a file that cannot be read.

    Args:
        file: path, or the file's bytes.
        size: at most this many.
    """
    if isinstance(file, bytes):
        return file[:size]
    try:
        with open(file, "rb") as opened:
            return opened.read(size)
    except OSError:
        return b""


def encoded_video(source: Any) -> dict[str, Any] | None:
    """Return path and bytes of a row of `datasets.Video`, decoded or not; None for any other source.

    Args:
        source: anything.
    """
    row = getattr(source, "_hf_encoded", source)  # datasets leaves it on the torchcodec decoder that it returns
    if not isinstance(row, dict) or row.keys() != {"path", "bytes"}:
        return None
    return row


def is_url(source: object) -> TypeGuard[str]:
    """Return whether `source` is a text that starts with a URL scheme such as `https://`."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def split_address(url: str) -> SplitResult:
    """Return the parts of an http(s) address.

    Args:
        url: the address.

    Raises:
        VideoDecodeError: if it is of another scheme, or no address.
    """
    label = describe(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is asked for
    except ValueError as error:
        raise VideoDecodeError(label, f"it is not a valid address ({error})", CHECK_THE_ADDRESS) from error
    if parts.scheme not in ("http", "https"):
        advice = "Pass the path of a file, or an address that begins with http(s)://, s3://, gs://, az:// or hf://."
        raise VideoDecodeError(label, f"{parts.scheme!r} addresses are not supported", advice)
    if not parts.hostname:
        raise VideoDecodeError(label, "the address names no host", CHECK_THE_ADDRESS)
    return parts


def check_file(path: str, of_folders: str) -> Path:
    """Return the absolute path of an existing file; see `check_path`.

    Args:
        path: path of a file.
        of_folders: advice where it is a folder.

    Raises:
        VideoDecodeError: also if it is an address or a folder.
    """
    if is_url(path):
        raise VideoDecodeError(path, "it is an address", "Download it first.")
    file = check_path(path)
    if file.is_dir():
        raise VideoDecodeError(path, "it is a folder", of_folders)
    return file


def check_path(path: str) -> Path:
    """Return the absolute path of an existing folder or of an existing file that is not empty.

    Args:
        path: path of a file or of a folder.

    Raises:
        VideoDecodeError: if nothing is there, the file is empty, or it is neither a file nor a folder.
    """
    label = describe(path)
    if not os.fspath(path):
        raise VideoDecodeError("''", "the path is empty", "Give the path of a video.")
    try:
        # Absolute, so that FFmpeg never reads a name such as `concat:a|b` as one of its protocols.
        absolute = Path(path).expanduser().absolute()
        status = absolute.stat()
    except FileNotFoundError:
        raise VideoDecodeError(label, "no such file or folder", "Check the path.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise VideoDecodeError(
            label, f"it cannot be opened as a path ({reason_of(error)})", "Check the path."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return absolute
    if not stat.S_ISREG(status.st_mode):
        raise VideoDecodeError(label, "it is neither a file nor a folder", "Copy the video into a file first.")
    if status.st_size == 0:
        raise VideoDecodeError(label, "the file is empty (0 bytes)", "Copy or download it again.")
    return absolute
