"""Work on many files by several processes, any of which a file may kill; and which files are meant."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.data.manifests import MANIFEST_SUFFIXES, read_manifest
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import is_url
from internvideo_hf.video.stills import is_image_file

KILLED = "the decoder killed its process, or memory ran out"
_WAITING = 4  # tasks for each process that are handed out ahead


def find_videos(sources: Sequence[str], data_root: str | Path | None = None) -> list[str]:
    """Lists the videos that files, folders, addresses and manifests name, each once, in their order.

    Args:
        sources: Video files, addresses, folders of videos (searched to the bottom), folders of nothing but frame
            files (each one video), and manifests, told by the ending of their name.
        data_root: Folder that relative paths of manifests begin in.

    Raises:
        ManifestError: If a manifest is not as it should be; paths where nothing is are no mistake here.
        ValueError: If a folder holds no video.
    """
    found: dict[str, None] = {}
    for source in sources:
        if not is_url(source) and Path(source).suffix.lower() in MANIFEST_SUFFIXES:
            rows = read_manifest(source, data_root, check_files=False, check_labels=False, allow_duplicates=True)
            found |= dict.fromkeys(row["video"] for row in rows)
        elif not is_url(source) and Path(source).is_dir():
            found |= dict.fromkeys(_videos_in(Path(source)))
        else:
            found[source] = None
    return list(found)


def _videos_in(folder: Path) -> list[str]:
    videos = sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    # Pictures beside videos are covers and the like.
    if not videos and any(is_image_file(file) for file in folder.iterdir()):
        return [str(folder)]
    if not videos:
        raise ValueError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no frame files. Name another.")
    return videos


def each(
    task: Callable[[Any], Any], items: Sequence[Any], jobs: int, name_of: Callable[[Any], str] = str
) -> Iterator[tuple[Any, Any]]:
    """Does a task for every item, and yields (item, result) as they come; a result may be the error it ended with.

    With one job in this process, else in spawned ones. Items that were under way when a process died are done once
    more, one after the other.

    Args:
        task: A function of an importable module, or a `partial` of one.
        items: Arguments of it that can be pickled.
        jobs: Processes, at least 1.
        name_of: The name of an item's video, for messages.

    Yields:
        The item, and what the task returned, or the `VideoDecodeError`, `OSError` or `ValueError` that it raised.

    Raises:
        ValueError: If `jobs` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs: got {jobs}, expected at least 1; this machine has {os.cpu_count()} cores")
    if jobs == 1:
        yield from ((item, _outcome(task, item)) for item in items)
        return
    remaining = list(items)
    while remaining:
        suspects, remaining = yield from _in_pool(task, remaining, jobs, _WAITING * jobs)
        while suspects:
            # One at a time, so that it is plain which of them does it.
            killers, suspects = yield from _in_pool(task, suspects, 1, 1)
            for item in killers:
                yield item, VideoDecodeError(name_of(item), KILLED, "Leave the video out, or encode it again.")


def _outcome(task: Callable[[Any], Any], item: Any) -> Any:
    try:
        return task(item)
    except (VideoDecodeError, OSError, ValueError) as error:
        return error


def _in_pool(task: Callable, items: Sequence[Any], jobs: int, ahead: int) -> Iterator[tuple[Any, Any]]:
    """Yields as `each`, until a process dies; returns the items that were handed out then, and those that were not.

    At most `ahead` items are handed out at a time.
    """
    remaining = list(reversed(items))
    waiting: dict[Future, Any] = {}
    context = multiprocessing.get_context("spawn")  # a decoder's threads do not survive a fork
    pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=context)
    try:
        while remaining or waiting:
            while remaining and len(waiting) < ahead:
                waiting[pool.submit(_outcome, task, remaining[-1])] = remaining[-1]
                remaining.pop()
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield waiting.pop(future), result
    except BrokenProcessPool:
        pass
    finally:
        # Ctrl-C and an abandoned loop end here, too: what has not begun is not begun.
        pool.shutdown(wait=True, cancel_futures=True)
    return list(waiting.values()), list(reversed(remaining))
