"""From files to rows of a store: decoding by an executor, and batches across videos."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Executor
from internvideo_hf.data.executors.parts import cut
from internvideo_hf.data.failures import failure_of
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.search.clips import Clips, Task, Windowing, in_pieces, normalized, read_clips
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.segments import NO_METADATA, Segment, Video
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
    on_failed: Callable[[VideoDecodeError, str], object] = lambda error, path: None,
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
        on_failed: called with each error, when it comes, and the path of its video.

    Returns:
        One error per video that could not be read, or not to the end.
    """
    timeout = processes.time_limit(timeout, processes.TIMEOUT, apart=workers > 1)
    task = partial(read_clips, processor=encoder.video_processor, windowing=windowing)
    account = Account(todo, encoder.video_processor, on_done, on_failed)
    batches, stopwatch = Batches(encoder, batch_size), Stopwatch()
    try:
        while pieces := account.next_pieces():
            # Batches end where shards end, so that the rows have the same bits whoever computes them.
            ends = set(accumulate(map(len, cut(pieces, name_of_piece))))
            results = executor.map_ordered(task, pieces, workers, path_of, timeout=timeout)
            for place, (piece, result) in enumerate(results, 1):
                if not isinstance(result, Clips):
                    account.take(piece, result)
                elif account.take(piece, video_of(piece, result), len(result.numbers)):
                    batches.add(piece[0], result, todo[piece[0]].metadata)
                if place in ends:
                    batches.finish()
                if stopwatch.is_due():
                    batches.flush(store)
    finally:
        batches.flush(store)
    store.compact()
    return list(account.failed.values())


def path_of(piece: Task) -> str:
    """Return the path of a piece's video."""
    return piece[0]


def name_of_piece(piece: Task) -> str:
    """Return what tells a piece from others: path and numbers."""
    path, numbers = piece
    return f"{path} {'' if numbers is None else numbers}"


def video_of(piece: Task, clips: Clips, metadata: Mapping[str, Any] | None = None) -> Video:
    """Return the entry of the video that clips were read from."""
    return Video(piece[0], clips.size, clips.mtime, clips.content, len(clips.spans), metadata or NO_METADATA)


class Account:
    """The videos on their way into a store: which pieces are left, and which videos failed.

    Args:
        todo: clips by path.
        processor: of the model.
        on_done: progress callback `(done, total)`, in videos.
        on_failed: called with each error and the path of its video.

    Attributes:
        failed: an error per video that could not be read, or not to the end, by path.
    """

    def __init__(
        self,
        todo: Mapping[str, Todo],
        processor: InternVideoVideoProcessor,
        on_done: Callable[[int, int], object],
        on_failed: Callable[[VideoDecodeError, str], object] = lambda error, path: None,
    ):
        self.failed: dict[str, VideoDecodeError] = {}
        self._on_failed = on_failed
        self._processor, self._on_done, self._done = processor, on_done, 0
        self._first: list[Task] = [(path, None) for path, (numbers, _, _) in todo.items() if numbers is None]
        self._rest: list[Task] = []
        for path, (numbers, _, _) in todo.items():
            self._rest += [] if numbers is None else [(path, piece) for piece in in_pieces(numbers, processor)]
        self._waiting = Counter(path for path, _ in (*self._first, *self._rest))
        self._contents = {path: content for path, (_, content, _) in todo.items() if content is not None}

    def next_pieces(self) -> list[Task]:
        """Return what is left: at first a piece of each video, then the others of those that turned out longer.

        Videos that an earlier run began have their turn with the latter, so that rows are in the order of one run.
        """
        if self._first:
            pieces, self._first = self._first, []
        else:
            pieces, self._rest = self._rest, []
        return pieces

    def take(self, piece: Task, outcome: Video | Exception, held: int = 0) -> bool:
        """Count a piece that has been read, or why it could not be.

        Args:
            piece: as in `next_pieces`.
            outcome: the video as it was read.
            held: clips that were read.

        Returns:
            Whether its clips belong to the index.
        """
        path, numbers = piece
        is_kept = False
        if isinstance(outcome, Exception):
            self._fail(path, failure_of(path, outcome))
        elif self._contents.setdefault(path, outcome.content) != outcome.content:
            cause = "its content changed while it was read"
            self._fail(path, VideoDecodeError(path, cause, "Run again when the file is complete."))
        else:
            is_kept = True
            if numbers is None:
                rest = in_pieces(range(held, outcome.clips), self._processor)
                self._rest += [(path, piece) for piece in rest]
                self._waiting[path] += len(rest)
        self._waiting[path] -= 1
        self._done += self._waiting[path] == 0
        self._on_done(self._done, len(self._waiting))
        return is_kept

    def _fail(self, path: str, error: VideoDecodeError) -> None:
        if path not in self.failed:
            self.failed[path] = error
            self._on_failed(error, path)


class Batches:
    """Clips on their way from pixels to rows, across videos, so that batches are full.

    Args:
        encoder: the model.
        batch_size: clips per forward pass.
    """

    def __init__(self, encoder: Embedder, batch_size: int):
        self._encoder, self._batch_size = encoder, batch_size
        self._waiting: list[tuple[Video, int, np.ndarray, np.ndarray, np.ndarray]] = []
        self._done: list[tuple[Video, int, np.ndarray]] = []
        self._rows: list[torch.Tensor] = []

    def add(self, path: str, clips: Clips, metadata: Mapping[str, Any]) -> None:
        """Take clips, and embed all full batches."""
        video = video_of((path, None), clips, metadata)
        blank = np.zeros(clips.pixels.shape[:3], dtype=bool) if clips.blank is None else clips.blank
        for number, pixels, blanks in zip(clips.numbers, clips.pixels, blank, strict=True):
            self._waiting.append((video, number, clips.spans[number], pixels, blanks))
        while len(self._waiting) >= self._batch_size:
            self._embed_batch()

    def finish(self) -> None:
        """Embed the last batches."""
        while self._waiting:
            self._embed_batch()

    def flush(self, store: VectorStore) -> None:
        """Move the embedded clips to a store."""
        if (segment := self.take()) is not None:
            store.upsert(segment)

    def take(self) -> Segment | None:
        """Return the embedded clips, and forget them; None if there are none."""
        if not self._rows:
            return None
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
        return segment

    def _embed_batch(self) -> None:
        # What follows each other and has one shape: all that comes, but of processors that keep the frames' size.
        first = self._waiting[0][3].shape
        size = next(
            (place for place, clip in enumerate(self._waiting[: self._batch_size]) if clip[3].shape != first),
            self._batch_size,
        )
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        pixels = np.stack([pixels for _, _, _, pixels, _ in batch])
        blank = np.stack([blank for _, _, _, _, blank in batch])
        encoder = self._encoder
        self._rows.append(encoder.embed_clips(normalized(pixels, blank, encoder.video_processor, encoder.device)))
        self._done += [(video, number, span) for video, number, span, _, _ in batch]
