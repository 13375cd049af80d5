"""Files of annotated videos: whole movies, files of one second each, and clips cut out of longer videos."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from internvideo_hf.data.failures import failure_of, one_video
from internvideo_hf.data.finding import list_folder
from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.key_frames import (
    NUM_FRAMES,
    STRIDE,
    context_frames,
    frames_at,
    read_clips,
)
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

Frames = NDArray[np.uint8]
_KINETICS = re.compile(r"(?P<video>.+)_(?P<begin>\d{6})_(?P<end>\d{6})")
_HELD = 6  # files of one second whose frames are held: a context reaches over four or five


class Movie:
    """One file, of a whole video or of a part of it.

    Args:
        path: the file.
        begin: time of the annotations at which it begins, in seconds.
    """

    def __init__(self, path: Path, begin: float = 0.0):
        self.path, self.begin = path, begin

    @property
    def name(self) -> str:
        """Path of the file."""
        return str(self.path)

    def read(self, timestamp: float, num_frames: int = NUM_FRAMES, stride: int = STRIDE) -> Frames:
        """Return the frames around a key frame, `(num_frames, height, width, 3)`; see `keyframes.context_frames`.

        Args:
            timestamp: of the key frame, in seconds of the annotations.
            num_frames: to return.
            stride: from one to the next.

        Raises:
            VideoDecodeError: if a frame cannot be read, or the file does not reach the key frame.
        """
        with VideoReader(self.path) as reader:
            (key_frame,) = self._key_frames(reader, [timestamp])
            if isinstance(key_frame, VideoDecodeError):
                raise key_frame
            return reader.read(context_frames(key_frame, reader.num_frames, num_frames, stride))

    def stream(
        self,
        timestamps: Sequence[float],
        process: Callable[[Frames], torch.Tensor],
        num_frames: int = NUM_FRAMES,
        stride: int = STRIDE,
    ) -> Iterator[torch.Tensor | VideoDecodeError]:
        """Yield the processed frames around each of several key frames; every frame of the file is decoded once.

        Args:
            timestamps: of the key frames, rising.
            process: makes the model's pixels of a frame, `(channels, height, width)`.
            num_frames: see `read`.
            stride: see `read`.

        Yields:
            `(num_frames, channels, height, width)`, or why the frames cannot be read.
        """
        damaged = VideoDecodeError(str(self.path), "a frame around the key frame is damaged", "Get the file again.")
        done = 0
        try:
            with one_video(str(self.path)), VideoReader(self.path) as reader:
                found = self._key_frames(reader, timestamps)
                readable = [key_frame for key_frame in found if not isinstance(key_frame, VideoDecodeError)]
                contexts = [context_frames(one, reader.num_frames, num_frames, stride) for one in readable]
                clips = read_clips(reader, readable, contexts, process)
                for key_frame in found:
                    if isinstance(key_frame, VideoDecodeError):
                        yield key_frame
                    else:
                        pixels = next(clips).pixels
                        yield damaged if pixels is None else pixels
                    done += 1
        except VideoDecodeError as error:
            yield from [error] * (len(timestamps) - done)

    def _key_frames(self, reader: VideoReader, timestamps: Sequence[float]) -> list[int | VideoDecodeError]:
        timeline = reader.timeline
        if timeline is None:
            raise VideoDecodeError(str(self.path), "its frames have no times", "Encode it again.")
        times, end = np.array(timestamps) - self.begin, float(timeline[-1])
        numbers = frames_at(timeline, times.clip(0, end)).tolist()
        span = f"it shows {self.begin:g} to {self.begin + end:g} s"
        return [
            number
            if 0 <= time < end
            else VideoDecodeError(
                str(self.path), f"{span}, and a key frame is at {stamp:g} s", "Check data.boxes.begin, or the file."
            )
            for number, time, stamp in zip(numbers, times.tolist(), timestamps, strict=True)
        ]


class SecondFiles:
    """A video as files of one second each, as AVA is prepared for training: its key frames begin the files.

    Args:
        files: second -> file.
    """

    def __init__(self, files: dict[int, Path]):
        self.files = files
        self._held: dict[int, Frames] = {}  # the latest

    @property
    def name(self) -> str:
        """Path of the folder."""
        return str(next(iter(self.files.values())).parent)

    def read(self, timestamp: float, num_frames: int = NUM_FRAMES, stride: int = STRIDE) -> Frames:
        """Return the frames around a key frame; see `Movie.read`. Beyond a missing file the last frame is repeated."""
        second = int(timestamp)
        if second != timestamp or second not in self.files:
            raise VideoDecodeError(self.name, f"it has no file of second {timestamp:g}", "Cut the movie again.")
        reach = num_frames * stride // 2
        left, right = self._side(second, -1, reach), self._side(second, 1, reach)
        frames = [frame for part in (*reversed(left), *right) for frame in part]
        key_frame = sum(map(len, left))
        return np.stack([frames[place] for place in context_frames(key_frame, len(frames), num_frames, stride)])

    def stream(
        self,
        timestamps: Sequence[float],
        process: Callable[[Frames], torch.Tensor],
        num_frames: int = NUM_FRAMES,
        stride: int = STRIDE,
    ) -> Iterator[torch.Tensor | VideoDecodeError]:
        """Yield the processed frames around each of several key frames; see `Movie.stream`."""
        for timestamp in timestamps:
            try:
                with one_video(self.name):
                    yield torch.stack([process(frame) for frame in self.read(timestamp, num_frames, stride)])
            except VideoDecodeError as error:
                yield error
        self._held.clear()

    def _side(self, second: int, step: int, reach: int) -> list[Frames]:
        """Return the frames of the files from a second on, or before it, until they suffice."""
        parts: list[Frames] = []
        second += min(step, 0)
        while second in self.files and sum(map(len, parts)) < reach:
            parts.append(self._frames(second))
            second += step
        return parts

    def _frames(self, second: int) -> Frames:
        if second not in self._held:
            frames = _all_frames(self.files[second])
            if len(self._held) == _HELD:
                del self._held[next(iter(self._held))]
            self._held[second] = frames
        return self._held[second]


Source = Movie | SecondFiles


class VideoFolder:
    """The videos of a data set, at any depth below a folder, by their ids.

    An id is the name of a whole file without its suffix; of a folder of files `902.mp4` or `0902.mp4` of one second
    each; or of a clip `ID_000012_000022.mp4`, as Kinetics is stored, which begins at second 12.

    Args:
        root: the folder.
        begin: time of the annotations at which whole files begin, in seconds.
    """

    def __init__(self, root: str | Path, begin: float = 0.0):
        self.begin = begin
        self._movies: dict[str, list[Path]] = {}
        self._clips: dict[str, list[tuple[float, float, Path]]] = {}
        self._seconds: dict[str, dict[int, Path]] = {}
        for path in map(Path, list_folder(root).videos):
            self._movies.setdefault(path.stem, []).append(path)
            if path.stem.isdecimal():
                self._seconds.setdefault(path.parent.name, {})[int(path.stem)] = path
            elif match := _KINETICS.fullmatch(path.stem):
                span = float(match["begin"]), float(match["end"]), path
                self._clips.setdefault(match["video"], []).append(span)

    def find(self, video: str, timestamp: float) -> Source | None:
        """Return the files that show a key frame; None if there are none.

        Args:
            video: id.
            timestamp: of the key frame, in seconds.

        Raises:
            ManifestError: if several whole files have this id.
        """
        if movies := self._movies.get(video):
            if len(movies) > 1:
                raise ManifestError(
                    str(movies[0]), None, f"{movies[1]} has the same id, {video}", "Rename or move one of them."
                )
            return Movie(movies[0], self.begin)
        for begin, end, path in self._clips.get(video, ()):
            if begin <= timestamp <= end:
                return Movie(path, begin)
        return SecondFiles(self._seconds[video]) if video in self._seconds else None


def _all_frames(path: Path) -> Frames:
    try:
        with VideoReader(path) as reader:
            return reader.read(range(reader.num_frames))
    except VideoDecodeError:
        raise
    except Exception as error:
        raise failure_of(str(path), error) from error
