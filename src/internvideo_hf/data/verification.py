"""Verify that videos can be decoded, before a training starts."""

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from internvideo_hf.data.executors.base import Executor
from internvideo_hf.data.executors.processes import TIMEOUT, WHOLE_TIMEOUT, map_unordered, time_limit
from internvideo_hf.data.failures import failure_of
from internvideo_hf.utils.files import atomic_write_text, remove_leftovers_of
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.containers import open_container
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.members import read_member
from internvideo_hf.video.reader import VideoReader
from internvideo_hf.video.sources import is_url

_BLOCK = 32  # frames decoded at a time
_TRUE_FRACTION = 0.9  # headers count frames that an edit hides, so a few less than promised are no damage


def verify_video(video: str, *, whole: bool = False) -> int:
    """Read the first, the middle and the last frame of a video, or all of it.

    Args:
        video: a file, a folder of frames or an address.
        whole: decode every frame.

    Returns:
        The number of frames.

    Raises:
        VideoDecodeError: if a frame cannot be read, or the file holds less than nine tenths of the frames that its
            header announces, as after an interrupted download.
    """
    with VideoReader(video, backend="pyav") as reader:
        count, promised = reader.num_frames, _promised_frames(video)
        if count < _TRUE_FRACTION * promised:
            raise VideoDecodeError(
                video, f"the header promises {promised} frames, {count} are there", "Download or copy it again."
            )
        if whole:
            for _ in reader.blocks(_BLOCK):
                pass
        else:
            reader.read(sorted({0, count // 2, count - 1}))
        return count


def _promised_frames(video: str) -> int:
    """Return the number of frames that the header announces; 0 where it announces none."""
    file = read_member(video)
    if isinstance(file, str) and (is_url(file) or not Path(file).is_file()):
        return 0
    # The reader reports what is wrong with a file; some formats of images are no videos here.
    with contextlib.suppress(VideoDecodeError), open_container(_as_file(file)) as container:
        stream = container.streams.best("video")
        return 0 if stream is None else stream.frames
    return 0


def _as_file(file: str | bytes) -> Path | bytes:
    return file if isinstance(file, bytes) else Path(file).absolute()


def verify_videos(
    videos: Sequence[str],
    *,
    jobs: int = 1,
    whole: bool = False,
    timeout: float | None = None,
    executor: Executor | None = None,
    on_done: Callable[[], object] = lambda: None,
    on_failed: Callable[[VideoDecodeError, str], object] = lambda error, video: None,
) -> list[VideoDecodeError]:
    """Verify videos, and return the errors of the bad ones.

    Args:
        videos: files, folders of frames, addresses.
        jobs: processes. With more than one, or with `timeout`, a file that crashes or hangs its decoder is one of the
            bad ones.
        whole: decode every frame: slow, and finds damage anywhere that the codec notices.
        timeout: seconds after which a decoder counts as hung; by default 600, or 3600 with `whole`.
        executor: runs the decoders, `jobs` at once, in place of processes of this machine.
        on_done: called after each video.
        on_failed: called with each error, when it comes, and its video.

    Returns:
        An error for each bad video, in the order of `videos`.

    Raises:
        ValueError: if `jobs` is below 1.
    """
    errors = {}
    default, task = WHOLE_TIMEOUT if whole else TIMEOUT, partial(verify_video, whole=whole)
    if executor is None:
        results = map_unordered(task, videos, jobs, timeout=time_limit(timeout, default, apart=jobs > 1))
    else:
        results = executor.map_ordered(task, videos, jobs, timeout=time_limit(timeout, default))
    for video, result in results:
        if isinstance(result, VideoDecodeError):
            errors[video] = failure_of(video, result)  # named as in the list
            on_failed(errors[video], video)
        on_done()
    return [errors[video] for video in videos if video in errors]


def write_report(path: AnyPath, checked: int, bad: Sequence[VideoDecodeError]) -> None:
    """Write the result of a scan as JSON: `checked`, and of each bad video `video`, `cause` and `advice`.

    Args:
        path: the file; its folder is created.
        checked: number of videos.
        bad: their failures.

    Raises:
        DiskFullError, OSError: if it cannot be written.
    """
    found = [{"video": error.source, "cause": error.cause, "advice": error.advice} for error in bad]
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(path)
    atomic_write_text(path, json.dumps({"checked": checked, "bad": found}, indent=1, ensure_ascii=False))
