"""Failures of single videos: what a batch survives, and the log that stops a run when they are too many.

Every worker, and every process on the machine or on a shared disk, appends to one file: so the count is right however
the data is loaded, and the trainer needs to know nothing of it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from internvideo_hf.utils.files import DiskFullError, is_disk_full
from internvideo_hf.utils.names import reason_of, without_number
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe, is_url

_LONGEST_CAUSE = 500  # characters
_CHECK = "Check the file, or leave it out."


class TooManyFailuresError(RuntimeError):
    """More videos are unreadable than training may leave out."""


OF_THE_BATCH = (DiskFullError, TooManyFailuresError, ImportError)
"""Errors that every other item would meet, too: they end a batch."""


def shown_name(video: str) -> str:
    """Return the name of a video in messages and reports: its path, or its address without secrets.

    Args:
        video: path or address.
    """
    return describe(video) if is_url(video) else video


def failure_of(video: str, error: Exception) -> VideoDecodeError:
    """Return the failure of one video of a batch, for any exception that the work on it raised.

    Args:
        video: path or address of the video.
        error: the exception.
    """
    name = shown_name(video)
    if isinstance(error, VideoDecodeError):
        if error.cause is None:  # a worker's error, raised again from its message
            return error
        # Of a folder of frames the error names one.
        file = f"{error.source}: " if error.source.startswith(os.path.join(os.path.abspath(video), "")) else ""
        return VideoDecodeError(name, f"{file}{error.cause}", error.advice)
    if isinstance(error, av.FFmpegError):
        return VideoDecodeError(name, f"FFmpeg cannot read it ({reason_of(error)})", _CHECK)
    text = (without_number(error).strip().splitlines() or [""])[0][:_LONGEST_CAUSE]
    if isinstance(error, MemoryError):
        text = text or "memory ran out"
    elif not isinstance(error, OSError | ValueError | RuntimeError):
        text = f"{type(error).__name__}: {text}"
    # Messages of this package end with a remedy.
    cause, _, advice = (text or type(error).__name__).removesuffix(".").partition(". ")
    if isinstance(error, OSError) and not advice:
        cause = f"it cannot be read ({cause})"
    return VideoDecodeError(name, cause, f"{advice}." if advice else _CHECK)


@contextmanager
def one_video(video: str) -> Iterator[None]:
    """Raise every exception of a block as the failure of one video, which does not concern the rest of its batch.

    Args:
        video: path or address of the video.

    Raises:
        VideoDecodeError: for any exception but `OF_THE_BATCH`, which pass.
    """
    try:
        yield
    except OF_THE_BATCH:
        raise
    except Exception as error:
        raise failure_of(video, error) from error


class FailureLog:
    """Log of every sample that is left out, a JSON object a line: `index`, `video` and `cause`.

    A sample counts once, in however many epochs it fails. Earlier content of the file stays and does not count.

    Args:
        path: the file; created with its folders if it does not exist.
        max_share: fraction of all samples that may fail, in [0, 1).
        min_failures: failures that are allowed in any case, or one bad file would end a run over 50 videos.

    Raises:
        ValueError: if a number is out of range.
        OSError: if the file cannot be written.
    """

    def __init__(self, path: str | Path, *, max_share: float = 0.01, min_failures: int = 5):
        if not 0 <= max_share < 1 or min_failures < 0:
            raise ValueError(
                f"max_share, min_failures: got {max_share}, {min_failures}, expected a fraction in [0, 1) and at "
                "least 0; the default fraction is 0.01"
            )
        self.path = Path(path)
        self.max_share = max_share
        self.min_failures = min_failures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._begin = self.path.stat().st_size

    def add(self, index: int | str, error: VideoDecodeError, total: int) -> None:
        """Log a sample that is left out.

        Args:
            index: identifies the sample.
            error: why it cannot be read.
            total: samples in all, of which `max_share` may fail.

        Raises:
            TooManyFailuresError: if more than that have failed now.
        """
        line = json.dumps({"index": index, "video": error.source, "cause": error.cause}) + "\n"
        # One write at the end of the file: lines of several processes do not mix.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())
        except OSError as problem:
            if is_disk_full(problem, self.path.parent):
                raise DiskFullError.of(self.path) from problem
            raise
        finally:
            os.close(file)
        failed, allowed = len(self.read()), max(self.min_failures, int(self.max_share * total))
        if failed > allowed:
            raise TooManyFailuresError(
                f"{failed} of {total} samples cannot be read, and {allowed} may be left out (max_share="
                f"{self.max_share}). The last is {error} All are listed in {self.path}; `internvideo scan` finds bad "
                "files before training."
            )

    def read(self) -> dict[int | str, dict[str, str]]:
        """Return the failures since the object was made: index -> `video` and `cause`."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            lines = file.read().split(b"\n")[:-1]  # what follows the last line break is being written
        failures = (json.loads(line) for line in lines)
        return {failure.pop("index"): failure for failure in failures}

    def __len__(self) -> int:
        return len(self.read())
