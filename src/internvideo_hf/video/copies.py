"""Local copies of videos in object stores, made by the process that decodes them."""

import atexit
import os
import re
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.processes import is_running, machine_mark, own_entries
from internvideo_hf.utils.storage import State, download, state_of
from internvideo_hf.video.downloads import DownloadSettings
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe

_CHECK = "Check the address, and the credentials and rights of the store."
_MACHINE = machine_mark()
_PREFIX = "internvideo-copy-"


class StoredCopy:
    """An object of a store in a temporary file.

    PyAV reads a video to its end for the index of its frames, and seeks in it: a copy is read once from the store, a
    file object of ranges 1.2 to 2 times, by many requests; and every decoder can read a copy. The one that a process
    closed last stays until it opens another video, or ends: parts of a long video are asked for one after another.

    Args:
        address: of the object.
        settings: limits; `max_bytes` and `deadline` count.

    Raises:
        VideoDecodeError: if it cannot be copied within the limits.
    """

    def __init__(self, address: str, settings: DownloadSettings):
        self._label = describe(address)
        try:
            self._key = address, state_of(address)
            self.path = _take_kept(self._key) or self._copy(address, self._key[1], settings)
        except (OSError, ImportError) as error:
            cause = reason_of(error) if isinstance(error, OSError) else str(error)
            raise VideoDecodeError(self._label, cause, _CHECK) from error

    def close(self) -> None:
        """Keep the file for the next reader of the same object, and delete the one that was kept before."""
        _keep(self._key, self.path)

    def _copy(self, address: str, state: State, settings: DownloadSettings) -> Path:
        if state.size == 0:
            raise VideoDecodeError(self._label, "the object is empty (0 bytes)", "Upload it again.")
        if state.size > settings.max_bytes:
            raise VideoDecodeError(
                self._label,
                f"it has {state.size} bytes, more than {settings.max_bytes}",
                "Pass a larger `max_bytes` (`--download-max-bytes`), or download the file yourself.",
            )
        remove_leftover_copies()
        _keep(None, None)  # room before the next one comes
        ends = time.monotonic() + settings.deadline

        def check_deadline(count: int) -> None:
            if time.monotonic() > ends:
                cause = f"the download took longer than {settings.deadline:g} s"
                raise VideoDecodeError(self._label, cause, "Pass a longer `deadline` (`--download-deadline`).")

        suffix = re.search(r"\.[A-Za-z0-9]{1,5}$", address)
        handle, name = tempfile.mkstemp(suffix.group() if suffix else "", f"{_PREFIX}{_MACHINE}-{os.getpid()}-")
        os.close(handle)
        try:
            download(address, Path(name), check_deadline)
            if (size := Path(name).stat().st_size) != state.size:
                cause = f"{size} of {state.size} bytes came"
                raise VideoDecodeError(self._label, cause, "Try again; the object may have been replaced meanwhile.")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)


_Key = tuple[str, State]
_kept: tuple[int, _Key, Path] | None = None  # process, object, file
_lock = threading.Lock()


def _take_kept(key: _Key) -> Path | None:
    """Return the kept file if it is that of an object, and keep it no longer."""
    global _kept
    with _lock:
        if _kept is None or _kept[:2] != (os.getpid(), key) or not _kept[2].exists():
            return None
        path, _kept = _kept[2], None
        return path


def _keep(key: _Key | None, path: Path | None) -> None:
    global _kept
    with _lock:
        # Another process, whose copy this one inherited by a fork, deletes its own.
        if _kept is not None and _kept[0] == os.getpid() and _kept[2] != path:
            _kept[2].unlink(missing_ok=True)
        _kept = None
        if key is None or path is None or f"-{os.getpid()}-" not in path.name:
            return
        _kept = os.getpid(), key, path


def remove_leftover_copies() -> None:
    """Delete the copies of processes of this user and machine that were killed."""
    for file in own_entries(tempfile.gettempdir(), f"{_PREFIX}{_MACHINE}-*", stat.S_ISREG):
        process = file.name.removeprefix(f"{_PREFIX}{_MACHINE}-").partition("-")[0]
        with suppress(OSError):
            if process.isdecimal() and not is_running(int(process)):
                file.unlink()


@atexit.register
def _clean_up() -> None:
    _keep(None, None)
    remove_leftover_copies()  # of workers, which end without exit functions


def _forget_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that held it is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
