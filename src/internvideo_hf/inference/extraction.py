"""Features of many videos by several workers, each with a model; the file of a video is its part."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from internvideo_hf.data.contents import stamp
from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Refusal
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.inference.features import (
    BLOCK,
    Block,
    FeatureExtractor,
    Outline,
    extract_to_file,
)
from internvideo_hf.models.common.loading import check_revision
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

_PIECE_BYTES = 1 << 26  # of processed frames, which a decoder returns at once


class Target(NamedTuple):
    """A video and the file of its features."""

    video: str
    path: AnyPath


@dataclass(frozen=True)
class Extraction:
    """How workers extract features.

    Args:
        extractor: arguments of `FeatureExtractor`, but for the device.
        revision: of the model in this process; a worker that finds another one refuses.
        output: options of `extract_to_file`.
    """

    extractor: dict[str, Any]
    revision: str
    output: dict[str, Any] = field(default_factory=dict)


def extract_on_engine(
    targets: Sequence[Target], settings: Extraction, engine: Engine, timeout: float | None = None
) -> Iterator[tuple[Target, bool | VideoDecodeError]]:
    """Extract features of videos by several workers, equal to those that one process extracts.

    The decoders of a worker decode what its model reads, a piece of a video each. A video that kills or hangs one is a
    failure. An interrupted run continues with the files and rows that are there.

    Args:
        targets: videos and files.
        settings: of all videos.
        engine: runs the workers.
        timeout: seconds after which a decoder counts as hung; 600 by default.

    Yields:
        A video, and whether it was extracted, as `extract_to_file` returns it, or why it was not.

    Raises:
        ValueError: if a worker finds another model.
        DiskFullError: if there is no room.
    """
    limit = processes.time_limit(timeout, processes.TIMEOUT)
    task = partial(_extract, settings=settings, engine=engine, timeout=limit)
    for target, result in engine.map_ordered(task, targets, engine.workers, _video_of):
        if isinstance(result, Refusal):
            raise result.error
        yield target, result


def _extract(target: Target, settings: Extraction, engine: Engine, timeout: float | None) -> bool | Refusal:
    facts = tuple(sorted(settings.extractor.items()))
    extractor = _extractor(facts, engine.device())
    try:
        check_revision(extractor.name, extractor.settings.revision, settings.revision)
    except ValueError as error:
        return Refusal(error)
    return extract_to_file(extractor, *target, **settings.output, decoding=_Pieces(engine, timeout))


@lru_cache(maxsize=1)
def _extractor(facts: tuple[tuple[str, Any], ...], device: str | None) -> FeatureExtractor:
    return FeatureExtractor(**dict(facts), device=device)


def _video_of(item: "Target | _Piece") -> str:
    return item.video


class _Facts(NamedTuple):
    """An `Outline` that can be sent."""

    name: str
    num_frames: int
    fps: float | None
    duration: float | None
    timeline: np.ndarray | None


class _Piece(NamedTuple):
    """Consecutive frames of a video, by their numbers; none of them for its outline."""

    video: str
    numbers: Sequence[int]


class _Pieces:
    """A `Decoding` by the decoders of a worker.

    Args:
        engine: whose worker this is.
        timeout: seconds after which a decoder counts as hung; None for no limit.
    """

    def __init__(self, engine: Engine, timeout: float | None):
        self._engine, self._timeout = engine, timeout

    def outline(self, video: str) -> Outline:
        """Return what is known of a video without its frames."""
        (facts,) = self._run(_outline_of, [_Piece(video, ())])
        return facts  # type: ignore[no-any-return]

    def blocks(
        self, video: str, extractor: FeatureExtractor, numbers: Sequence[int], *, gaps: bool
    ) -> Iterator[Block]:
        """Yield processed frames."""
        process = extractor.encoder.process
        size = max(BLOCK, _PIECE_BYTES // process(np.zeros((1, 480, 640, 3), np.uint8)).nbytes)
        pieces = [_Piece(video, numbers[first : first + size]) for first in range(0, len(numbers), size)]
        read = partial(_read, process=extractor.encoder.process_raw)
        for piece, pixels in zip(pieces, self._run(read, pieces), strict=True):
            if pixels is None:
                # What is damaged depends on where decoding begins, which is here where one process begins.
                with VideoReader(video, backend="pyav") as reader:
                    yield from extractor.blocks(reader, numbers[pieces.index(piece) * size :], gaps=gaps)
                return
            # On the CPU: the extractor holds many frames, for windows that share them.
            frames = pixels.normalized()[0] if isinstance(pixels, RawPixels) else torch.from_numpy(pixels)
            yield frames, [True] * len(frames)

    def _run(self, task: Callable[[_Piece], Any], pieces: Sequence[_Piece]) -> Iterator[Any]:
        run, count = self._engine.executor().map_ordered, self._engine.decoders
        for _, result in run(task, pieces, count, _video_of, timeout=self._timeout):
            if isinstance(result, VideoDecodeError):
                raise result
            yield result


def _outline_of(piece: _Piece) -> _Facts:
    reader = _reader(piece.video, stamp(piece.video))
    return _Facts(reader.name, reader.num_frames, reader.fps, reader.duration, reader.timeline)


def _read(piece: _Piece, process: Callable[[np.ndarray], RawPixels | torch.Tensor]) -> RawPixels | np.ndarray | None:
    """Return processed frames, or those before they are normalized; None if one of them is damaged."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # the processes share the cores
    blocks: list[RawPixels | torch.Tensor] = []
    unique, places = np.unique(piece.numbers, return_inverse=True)
    try:
        frames = _reader(piece.video, stamp(piece.video)).stretch(unique.tolist())
        while block := list(islice(frames, BLOCK)):
            blocks.append(process(np.stack(block)))
    except VideoDecodeError:
        return None
    raw = [block for block in blocks if isinstance(block, RawPixels)]
    if not raw:
        return torch.cat([block for block in blocks if isinstance(block, torch.Tensor)])[
            torch.from_numpy(places)
        ].numpy()
    pixels = np.concatenate([block.pixels for block in raw], axis=1)[:, places]
    blank = np.concatenate([block.blank for block in raw], axis=1)[:, places]
    return RawPixels(pixels, blank, raw[0].statistics)


@lru_cache(maxsize=1)
def _reader(video: str, mark: tuple[int, int]) -> VideoReader:
    """Return a reader of a video, open for its next piece."""
    return VideoReader(video, backend="pyav")
