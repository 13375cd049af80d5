"""Failures of single videos: what a batch survives, and the log that stops a run when they are too many.

Every worker, and every process on the machine or on a shared disk, appends to one file: so the count is right however
the data is loaded, and the trainer needs to know nothing of it.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av

from internvideo_hf.data.contents import stamp_if_there
from internvideo_hf.utils.files import DiskFullError, atomic_write_text, is_disk_full, remove_leftovers_of
from internvideo_hf.utils.journal import Stopwatch
from internvideo_hf.utils.names import reason_of, sentence, without_number
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe, is_url

_LONGEST_CAUSE = 500  # characters
_CHECK = "Check the file, or leave it out."
KILLED = "the decoder killed its process, or memory ran out"
HUNG = "the decoder did not finish within {:g} seconds (--video-timeout)"
LOST = "its worker was lost {} times"
_LOST_AMONG_OTHERS = "the workers that had it and others to {} died"
_POISON = tuple(cause.partition("{")[0] for cause in (KILLED, HUNG, LOST))


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
        return type(error)(name, f"{file}{error.cause}", error.advice)
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
    return VideoDecodeError(name, cause, sentence(advice) if advice else _CHECK)


def lost_among_others(video: str, doing: str) -> VideoDecodeError:
    """Return the failure of a video whose shard was lost each time, which does not tell which of its videos is guilty.

    Args:
        video: path or address of the video.
        doing: what was to be done with it, such as "embed".
    """
    return VideoDecodeError(video, _LOST_AMONG_OTHERS.format(doing), "Look at their messages, and run again.")


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
        _append(self.path, {"index": index, "video": error.source, "cause": error.cause})
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


def is_poison(cause: str | None) -> bool:
    """Return whether a video fails for a cause that costs minutes, since it kills or hangs its decoder."""
    return str(cause).startswith(_POISON)


class FailureTable:
    """The videos that a long job could not do, in a file beside its output: a JSON object a line.

    A row has `video`, `cause`, `advice`, `stage`, `attempts`, and `size` and `mtime` of the file then. It appears when
    the video fails, so that a job that is killed keeps it, and goes when the video is done. Of several rows of a
    video, as a killed job leaves them, the last one counts. There is no file without failures.

    What killed or hung its decoder would cost minutes in every run: it is not tried again until its file changes, or
    the user asks for it (--retry). Other failures cost little, and are tried again.

    A job asks which of its videos to try (`divide`) and adds those that fail, in a `with` block; when the block ends
    without an error, the videos that were asked for and did not fail leave the table.

    Args:
        path: the file; None keeps nothing. Objects of stores cannot be added to: there, the table is written again,
            at most every 20 seconds, and a killed job may lose the rows since.
        stage: what failed, such as "index".
        retry: try all videos again.

    Raises:
        ValueError: if the file is no such table.
    """

    def __init__(self, path: str | AnyPath | None, stage: str, *, retry: bool = False):
        self.path, self.stage, self.retry = None if path is None else as_path(path), stage, retry
        self._stopwatch = Stopwatch()
        try:
            self._rows = {} if self.path is None else {str(row["video"]): row for row in _lines(self.path)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no table of failures ({reason_of(error)}). Delete it.") from error
        self._failed: set[str] = set()
        self._asked: set[str] = set()
        self._held: set[str] = set()

    @classmethod
    def beside(cls, out: str | AnyPath | None, stage: str, *, retry: bool = False) -> "FailureTable":
        """Return the table beside an output file, `OUT.failures.jsonl`.

        Args:
            out: the file; None keeps nothing.
            stage: what failed.
            retry: try all videos again.
        """
        if out is None:
            return cls(None, stage, retry=retry)
        path = as_path(out)
        return cls(path.with_name(f"{path.name}.failures.jsonl"), stage, retry=retry)

    def __enter__(self) -> "FailureTable":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, each video once."""
        return iter(self._rows.values())

    def divide(self, videos: Iterable[str]) -> tuple[list[str], dict[str, VideoDecodeError]]:
        """Return the videos of the job that are to be tried, and those that are not, with their failures.

        Args:
            videos: paths or addresses.
        """
        rest: list[str] = []
        held: dict[str, VideoDecodeError] = {}
        for video in videos:
            name = shown_name(video)
            self._asked.add(name)
            row = None if self.retry else self._rows.get(name)
            if row is not None and is_poison(row["cause"]) and [row.get("size"), row.get("mtime")] == [*_stamp(video)]:
                self._failed.add(name)
                self._held.add(name)
                held[video] = VideoDecodeError(name, row["cause"], "It was not tried again; --retry does.")
            else:
                rest.append(video)
        return rest, held

    def forget(self, videos: Iterable[str]) -> None:
        """Remove videos that are gone.

        Args:
            videos: paths or addresses.
        """
        self._asked.update(map(shown_name, videos))

    def add(self, error: VideoDecodeError, video: str | None = None) -> None:
        """Add a row, unless `divide` has held the video back, whose row stays.

        Args:
            error: why a video failed.
            video: its path or address, if the error does not name it by that.

        Raises:
            DiskFullError: if there is no room.
        """
        name = shown_name(video or error.source)
        if name in self._held:
            return
        size, mtime = _stamp(video or error.source)
        attempts = int(self._rows.get(name, {}).get("attempts", 0)) + (name not in self._failed)
        known = {"video": name, "cause": error.cause, "advice": error.advice, "stage": self.stage}
        self._rows[name] = {**known, "attempts": attempts, "size": size, "mtime": mtime}
        self._failed.add(name)
        if isinstance(self.path, StoragePath):
            if self._stopwatch.is_due():
                self._write(self.path)
        elif self.path is not None:
            _append(self.path, self._rows[name])

    def _close(self) -> None:
        """Write the table without the videos of the job that did not fail; rows of others stay."""
        done = self._asked - self._failed
        self._rows = {name: self._rows[name] for name in sorted(self._rows) if name not in done}
        if self.path is None or not (self._failed or self.path.exists()):
            return
        if not self._rows:
            self.path.unlink(missing_ok=True)
            return
        remove_leftovers_of(self.path)
        self._write(self.path)

    def _write(self, path: AnyPath) -> None:
        atomic_write_text(path, "".join(f"{json.dumps(row)}\n" for row in self._rows.values()))


def _stamp(video: str) -> tuple[int, int]:
    with suppress(ValueError):  # a name that no file can have
        return stamp_if_there(video)
    return -1, -1


def _lines(path: AnyPath) -> Iterator[Any]:
    """Yield the objects of a file with one a line; the last may be cut off."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a line by one write at the end of the file: lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{json.dumps(row)}\n".encode())
    except OSError as problem:
        if is_disk_full(problem, path.parent):
            raise DiskFullError.of(path) from problem
        raise
    finally:
        os.close(file)
