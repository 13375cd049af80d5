"""Sources of videos: names for messages, checks of paths, and the download of URLs."""

import http.client
import os
import re
import stat
import tempfile
import urllib.error
import urllib.request
import weakref
from pathlib import Path
from typing import IO, Any, TypeGuard
from urllib.parse import urlsplit

from internvideo_hf.video.errors import VideoDecodeError

CHECK_THE_FILE = "Check that the file is complete and is a video; `ffprobe` shows what it holds."
_CHECK_THE_ADDRESS = "Check the address in a browser, or download the file and pass its path."
_LONGEST_LABEL = 200
_CHUNK = 1 << 20


def describe(source: Any) -> str:
    """Return a short text for messages that names `source` and never quotes its content.

    Args:
        source: anything that `VideoReader` accepts.
    """
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, list | tuple):
        return f"<{len(source)} images>"
    if hasattr(source, "shape"):
        return f"<frames {tuple(source.shape)}>"
    text = os.fspath(source)
    if is_url(text):
        # Signed addresses carry their secret in the query, others in the user part.
        parts = urlsplit(text)
        text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}..."


def is_url(source: object) -> TypeGuard[str]:
    """Return whether `source` is a text that starts with a URL scheme such as `https://`."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


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
        raise VideoDecodeError(label, f"it cannot be opened as a path ({error})"[:300], "Check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        return absolute
    if not stat.S_ISREG(status.st_mode):
        raise VideoDecodeError(label, "it is neither a file nor a folder", "Copy the video into a file first.")
    if status.st_size == 0:
        raise VideoDecodeError(label, "the file is empty (0 bytes)", "Copy or download it again.")
    return absolute


class Download:
    """A URL's content in a temporary file, deleted on `close`, on garbage collection and at exit.

    Args:
        url: an `http` or `https` address.
        timeout: seconds to wait for the connection, and for each next piece of data.
        max_bytes: the most bytes to accept.

    Raises:
        VideoDecodeError: if the address cannot be fetched, or holds more than `max_bytes`.
    """

    def __init__(self, url: str, timeout: float, max_bytes: int):
        suffix = re.search(r"\.[A-Za-z0-9]{1,5}$", urlsplit(url).path)
        handle, name = tempfile.mkstemp(prefix="internvideo_", suffix=suffix.group() if suffix else "")
        self.path = Path(name)
        self._remove = weakref.finalize(self, _remove_own_file, name, os.getpid())
        try:
            with os.fdopen(handle, "wb") as file:
                _fetch(url, file, timeout, max_bytes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the temporary file."""
        self._remove()


def _remove_own_file(name: str, owner: int) -> None:
    # A forked worker inherits this object; only the process that downloaded the file may delete it.
    if os.getpid() == owner:
        Path(name).unlink(missing_ok=True)


class _WebRedirectsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it redirects to a {scheme!r} address, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, file: IO[bytes], timeout: float, max_bytes: int) -> None:
    label = describe(url)
    scheme = urlsplit(url).scheme.lower()
    if scheme not in ("http", "https"):
        raise VideoDecodeError(
            label, f"{scheme!r} addresses are not supported", "Pass an http(s) address or the path of a file."
        )
    opener = urllib.request.build_opener(_WebRedirectsOnly)
    request = urllib.request.Request(url, headers={"User-Agent": "internvideo-hf"})
    try:
        with opener.open(request, timeout=timeout) as response:
            _copy(response, file, label, max_bytes)
    except urllib.error.HTTPError as error:
        cause = f"the server answered {error.code} {error.reason}"
        raise VideoDecodeError(label, cause, _CHECK_THE_ADDRESS) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        # A `URLError` wraps the error of the connection; a time-out while reading comes bare.
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            cause, advice = f"no data came within {timeout:g} s", "Try again, or pass a longer `timeout`."
        else:
            cause, advice = f"the download failed ({reason})", _CHECK_THE_ADDRESS
        raise VideoDecodeError(label, cause, advice) from error


def _copy(response: Any, file: IO[bytes], label: str, max_bytes: int) -> None:
    announced = response.headers.get("Content-Length", "")
    expected = int(announced) if announced.isdigit() else None
    too_large = VideoDecodeError(
        label, f"it is larger than {max_bytes} bytes", "Pass a larger `max_bytes`, or download the file yourself."
    )
    if expected is not None and expected > max_bytes:
        raise too_large
    received = 0
    # `read1` returns what has come, so a slow server meets the limits at every piece and not at every full chunk.
    while chunk := response.read1(_CHUNK):
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        file.write(chunk)
    if received == 0:
        raise VideoDecodeError(label, "the server sent no data", _CHECK_THE_ADDRESS)
    if expected is not None and received < expected:
        cause = f"the connection ended after {received} of {expected} bytes"
        raise VideoDecodeError(label, cause, "Try again.")
