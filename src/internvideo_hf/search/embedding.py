"""From files to rows of a store: decoding by an executor, and batches across videos."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Executor
from internvideo_hf.data.failures import failure_of
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.search.clips import Clips, Task, Windowing, in_pieces, read_clips
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.segments import Segment, Video
from internvideo_hf.search.sync import Todo
from internvideo_hf.utils.journal import Stopwatch
from internvideo_hf.video.errors import VideoDecodeError


def embed_videos(
    todo: Mapping[str, Todo],
    store: VectorStore,
    encoder: Embedder,
    windowing: Windowing,
    *,
    executor: Executor = processes,
    workers: int = 1,
    timeout: float | None = None,
    batch_size: int = 8,
    on_done: Callable[[int, int], object] = lambda done, total: None,
) -> list[VideoDecodeError]:
    """Decode and embed clips, and append them to a store from time to time; also when interrupted.

    Args:
        todo: clips by path.
        store: takes the rows.
        encoder: the model and its processor.
        windowing: how videos are divided into clips.
        executor: runs the decoders.
        workers: decoders at once.
        timeout: seconds after which a decoder counts as hung; 600 by default, none with one worker in this process.
        batch_size: clips per forward pass.
        on_done: progress callback `(done, total)`, in videos.

    Returns:
        One error per video that could not be read, or not to the end.
    """
    processor, timeout = encoder.video_processor, processes.time_limit(timeout, workers, processes.TIMEOUT)
    task = partial(read_clips, processor=processor, windowing=windowing)
    pieces: list[Task] = []
    for path, (numbers, _, _) in todo.items():
        pieces += [(path, piece) for piece in ([None] if numbers is None else in_pieces(numbers, processor))]
    waiting = Counter(path for path, _ in pieces)
    contents = {path: content for path, (_, content, _) in todo.items() if content is not None}
    failed: dict[str, VideoDecodeError] = {}
    batches, stopwatch, done = _Batches(encoder, batch_size), Stopwatch(), 0
    try:
        while pieces:
            more: list[Task] = []  # of videos whose length was not known
            for (path, numbers), result in executor.map_ordered(task, pieces, workers, _path_of, timeout=timeout):
                if not isinstance(result, Clips):
                    failed.setdefault(path, failure_of(path, result))
                elif contents.setdefault(path, result.content) != result.content:
                    cause = "its content changed while it was read"
                    failed.setdefault(path, VideoDecodeError(path, cause, "Run again when the file is complete."))
                else:
                    batches.add(path, result, todo[path].metadata)
                    if numbers is None:
                        rest = in_pieces(range(len(result.numbers), len(result.spans)), processor)
                        more += [(path, piece) for piece in rest]
                        waiting[path] += len(rest)
                waiting[path] -= 1
                done += waiting[path] == 0
                on_done(done, len(waiting))
                if stopwatch.is_due():
                    batches.flush(store)
            pieces = more
        batches.finish()
    finally:
        batches.flush(store)
    store.compact()
    return list(failed.values())


def _path_of(task: Task) -> str:
    return task[0]


class _Batches:
    """Clips on their way from pixels to rows, across videos, so that batches are full."""

    def __init__(self, encoder: Embedder, batch_size: int):
        self._encoder, self._batch_size = encoder, batch_size
        self._waiting: list[tuple[Video, int, np.ndarray, np.ndarray]] = []
        self._done: list[tuple[Video, int, np.ndarray]] = []
        self._rows: list[torch.Tensor] = []

    def add(self, path: str, clips: Clips, metadata: Mapping[str, Any]) -> None:
        """Take clips, and embed all full batches."""
        video = Video(path, clips.size, clips.mtime, clips.content, len(clips.spans), dict(metadata))
        for number, pixels in zip(clips.numbers, clips.pixels, strict=True):
            self._waiting.append((video, number, clips.spans[number], pixels))
        while len(self._waiting) >= self._batch_size:
            self._embed_batch()

    def finish(self) -> None:
        """Embed the last batches."""
        while self._waiting:
            self._embed_batch()

    def flush(self, store: VectorStore) -> None:
        """Move the embedded clips to a store."""
        if not self._rows:
            return
        videos = {video.path: video for video, _, _ in self._done}
        place = {path: i for i, path in enumerate(videos)}
        segment = Segment(
            list(videos.values()),
            torch.cat(self._rows),
            torch.from_numpy(np.stack([span for _, _, span in self._done])),
            torch.tensor([place[video.path] for video, _, _ in self._done]),
            torch.tensor([number for _, number, _ in self._done]),
        )
        self._done, self._rows = [], []
        store.upsert(segment)

    def _embed_batch(self) -> None:
        batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        self._rows.append(self._encoder.embed_clips(np.stack([pixels for _, _, _, pixels in batch])))
        self._done += [(video, number, span) for video, number, span, _ in batch]
