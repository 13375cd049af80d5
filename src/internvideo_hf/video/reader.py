"""`VideoReader`: frames of a video from any source, with any decoder."""

import ctypes
import itertools
import math
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np
import torch
from PIL import Image

from internvideo_hf.utils.names import check_name, reason_of
from internvideo_hf.utils.storage import is_stored
from internvideo_hf.video.animation import (
    AnimatedPicture,
    TimedFrames,
    frames_of_picture,
    has_frames,
    is_animated_png,
    is_animated_webp,
)
from internvideo_hf.video.backends import (
    DecordDecoder,
    PyAVDecoder,
    TorchCodecDecoder,
    decord_problem,
    torchcodec_problem,
)
from internvideo_hf.video.copies import StoredCopy
from internvideo_hf.video.downloads import Download, DownloadOptions, DownloadSettings
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.index import FrameIndex
from internvideo_hf.video.members import read_member
from internvideo_hf.video.sampling import BLANK
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import check_path, describe, encoded_video, is_url
from internvideo_hf.video.stills import Frames, StillFrames, frame_files, frames_of_array, image_of, is_image_file

_Decoder: TypeAlias = PyAVDecoder | DecordDecoder | TorchCodecDecoder | StillFrames | AnimatedPicture
BACKENDS = ("auto", "pyav", "decord", "torchcodec")
_CHECK_THE_DATA = "Write the file again, or leave the row out."
_KINDS = (
    "a path, an http(s) URL, an object of a store (s3://, gs://, ...), bytes, a file object opened in binary mode, "
    "a numpy or torch array of frames, a PIL image, a list or a generator of PIL images or of arrays, a folder of "
    "frame files, or a row of `datasets.Video`"
)


def available_backends() -> list[str]:
    """Return the names of the decoders that load on this machine."""
    problems = {"pyav": None, "decord": decord_problem(), "torchcodec": torchcodec_problem()}
    return [name for name, problem in problems.items() if problem is None]


class VideoReader:
    """Frames of one video, decoded on request.

    A reader is a context manager. It pickles, and works in a forked process: the copy opens the source again at its
    first use. So does the first use after `close`.

    Args:
        source: a path, also through a file that holds the video (`train.parquet/17`, see `video.members`), an http(s)
            URL, an object of a store (`s3://bucket/a.mp4`), which is copied to a temporary file
            with the credentials of this process (`INTERNVIDEO_STORES=none` refuses them, see `utils.storage`), bytes,
            a binary file object (read from its present place to its end), uint8 frames `(frames, height, width, 3)` or
            `(frames, 3, height, width)` in RGB as an array or a tensor on any device, a PIL image, a list of PIL
            images or of arrays `(height, width, 3)`, a folder of frame files in the order of their numbers, or a row
            of `datasets.Video`. An iterator of images or arrays is read to its end; `stream_windows` answers before
            it.
        backend: `"pyav"` (`"auto"` is the same), `"decord"` or `"torchcodec"`, both of which PyAV checks: they decode
            files without damage only. Sources that are frames need none.
        fps: frames per second of a source that is frames, `None` if unknown. Video files have their own.
        width: pixels that decord scales to while decoding; for `backend="decord"` only.
        height: pixels that decord scales to while decoding; for `backend="decord"` only.
        settings: limits of the size of frames, and what to do with HDR; `None` for the process's own.
        download: limits of the download of a URL: `timeout`, `deadline`, `max_bytes`, `allow_private` and
            `allow_playlists`, see `DownloadSettings`.

    Raises:
        VideoDecodeError: if the source is missing, empty, damaged, larger than a limit, or holds no video.
        TypeError: if the source is of another type.
        ValueError: if an argument is unknown, or does not fit the source or the backend.
        ImportError: if the named backend does not load on this machine.
    """

    def __init__(
        self,
        source: Any,
        backend: str = "auto",
        *,
        fps: float | None = None,
        width: int | None = None,
        height: int | None = None,
        settings: ReadSettings | None = None,
        **download: Unpack[DownloadOptions],
    ):
        check_name(backend, BACKENDS, "backend")
        if backend != "decord" and (width is not None or height is not None):
            raise ValueError(
                f'width and height are for backend="decord", which scales while decoding; backend is {backend!r}. '
                "Scale the frames afterwards."
            )
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps}, expected frames a second above 0")
        self._settings = settings or ReadSettings.default()
        self._source, self._label = _as_source(source, self._settings)
        self._requested = backend
        self._lock = threading.RLock()
        self._given_fps = fps
        self._width, self._height = width, height
        self._download_settings = replace(DownloadSettings.default(), **download)
        self._known_size: tuple[int, int] | None = None
        self._set_closed()
        self._open()

    @property
    def backend(self) -> str:
        """Name of the decoder in use; `"frames"` for a source that is frames."""
        return self._opened().name

    @property
    def name(self) -> str:
        """Name of the source for messages, such as its path or address."""
        return self._label

    @property
    def holds_arrays(self) -> bool:
        """Whether the source is arrays, whose channel order only the caller knows, and neither files nor images."""
        first = self._source[0] if isinstance(self._source, list) else self._source
        return isinstance(first, np.ndarray)

    @property
    def num_frames(self) -> int:
        """Number of frames that can be read, counted and not taken from the header."""
        return self._metadata().num_frames

    @property
    def fps(self) -> float | None:
        """Mean frames a second, `None` where unknown."""
        metadata = self._metadata()
        if isinstance(metadata, FrameIndex):
            return metadata.fps
        if self._given_fps is None and metadata.durations is not None:
            return len(metadata.durations) / float(metadata.durations.sum())
        return self._given_fps

    @property
    def duration(self) -> float | None:
        """Seconds from the begin of the first frame to the end of the last, `None` where unknown."""
        metadata = self._metadata()
        if isinstance(metadata, FrameIndex):
            return metadata.duration
        return metadata.num_frames / self.fps if self.fps else None

    @property
    def seconds(self) -> np.ndarray | None:
        """Time of each frame, float64 `(num_frames,)`, rising, 0 for the first; `None` where the file has no times."""
        metadata = self._metadata()
        if not isinstance(metadata, FrameIndex):
            given = metadata.durations if self._given_fps is None else None
            return None if given is None else np.cumsum(given) - given
        return None if metadata.seconds is None else metadata.seconds - metadata.seconds[0]

    @property
    def timeline(self) -> np.ndarray | None:
        """Begin of each frame and end of the last in seconds, float64 `(num_frames + 1,)`, rising from 0.

        From the mean frame rate where the file has no times; `None` where it has no rate either.
        """
        if self.seconds is not None and self.duration is not None:
            return np.append(self.seconds, self.duration)
        return np.arange(self.num_frames + 1) / self.fps if self.fps else None

    @property
    def height(self) -> int:
        """Pixels from top to bottom of the first frame, as `read` returns it."""
        return self._size()[0]

    @property
    def width(self) -> int:
        """Pixels from left to right of the first frame, as `read` returns it."""
        return self._size()[1]

    @property
    def frames_decoded(self) -> int | None:
        """Frames decoded so far, requested or not; `None` where the decoder does not count."""
        return getattr(self._opened(), "frames_decoded", None)

    def __len__(self) -> int:
        return self.num_frames

    def read(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """Return frames in the requested order, with repeats, as uint8 `(frames, height, width, 3)` RGB.

        Rotation metadata is applied. All frames of one call are decoded in one pass, so request everything at once.

        Args:
            indices: whole numbers in `[0, num_frames)`, counted in presentation order.

        Raises:
            VideoDecodeError: if an index is out of range, or a frame cannot be decoded.
            TypeError: if the indices are not whole numbers in one dimension.
        """
        indices = self._check_indices(indices)
        if len(indices) == 0:
            return np.empty((0, *self._size(), 3), dtype=np.uint8)
        unique, inverse = np.unique(indices, return_inverse=True)
        with self._lock:  # a decoder has one place in its file; two threads would move it under each other
            frames = self._opened().read(unique)
        if frames.dtype != np.uint8 or frames.ndim != 4 or (len(frames), frames.shape[3]) != (len(unique), 3):
            # decord does so for rotated videos of a few widths, such as 48.
            cause = f"{self.backend} returned {frames.dtype} {frames.shape} for {len(unique)} RGB frames"
            raise VideoDecodeError(self._label, cause, "Use another backend.")
        self._known_size = frames.shape[1], frames.shape[2]
        in_order = len(unique) == len(indices) and (inverse[:-1] < inverse[1:]).all()
        return np.ascontiguousarray(frames if in_order else frames[inverse])

    def read_clips(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Decode several clips in one pass.

        Args:
            clips: frame indices of each clip, as in `read`; a `BLANK` index returns an arbitrary frame.

        Returns:
            The frames of each clip, as from `read`.
        """
        wanted = [np.where(indices == BLANK, 0, indices) for indices in clips]
        return np.split(self.read(np.concatenate(wanted)), np.cumsum([len(indices) for indices in wanted[:-1]]))

    def blocks(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Iterate over the video from frame `start`, `size` frames at a time; the last block may be shorter.

        With `backend="pyav"` every frame is decoded once, however long the video; each call of `read` would begin at a
        keyframe.

        Args:
            size: frames of a block, 1 or more.
            start: the first frame, in `[0, num_frames)`.

        Yields:
            uint8 `(size, height, width, 3)`, RGB.

        Raises:
            VideoDecodeError: if a frame cannot be decoded, after the blocks before it.
        """
        decoder, count = self._opened(), self.num_frames
        if not isinstance(decoder, PyAVDecoder):
            for first in range(start, count, size):
                yield self.read(range(first, min(first + size, count)))
            return
        frames = self.frames(range(start, count))
        for first in range(start, count, size):
            block = [frame[None] for frame in itertools.islice(frames, min(size, count - first)) if frame is not None]
            yield block[0] if len(block) == 1 else np.concatenate(block)  # which copies

    def frames(self, numbers: Sequence[int], *, skip_damaged: bool = False) -> Iterator[np.ndarray | None]:
        """Iterate over some frames of the video.

        With `backend="pyav"` every frame up to the last of them is decoded once, and only they are converted; each
        call of `read` would begin at a keyframe.

        Args:
            numbers: of the frames, rising, in `[0, num_frames)`.
            skip_damaged: yield None for a frame that cannot be decoded, and go on.

        Yields:
            uint8 `(height, width, 3)`, RGB.

        Raises:
            VideoDecodeError: if a frame cannot be decoded, after the frames before it; unless `skip_damaged`.
        """
        decoder = self._opened()
        if isinstance(decoder, PyAVDecoder):
            yield from decoder.stream(numbers, skip_damaged=skip_damaged)
            return
        for number in numbers:
            try:
                frame = self.read([number])[0]
            except VideoDecodeError:
                if not skip_damaged:
                    raise
                yield None
            else:
                yield frame

    def stretch(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Iterate over some frames, decoded from the keyframe before the first of them.

        For parts of a long video by several processes: each frame is that of `frames`, or there is an error.

        Args:
            numbers: of the frames, rising, in `[0, num_frames)`.

        Yields:
            uint8 `(height, width, 3)`, RGB.

        Raises:
            VideoDecodeError: if the frames cannot be decoded from there without doubt; `frames` may do so.
        """
        decoder = self._opened()
        if isinstance(decoder, PyAVDecoder):
            yield from decoder.stretch(np.asarray(numbers))
            return
        for number in numbers:
            yield self.read([number])[0]

    def close(self) -> None:
        """Close the file and delete what was downloaded."""
        if self._decoder is not None:
            self._decoder.close()
        if self._download is not None:
            self._download.close()
        self._set_closed()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VideoReader({self._label!r}, backend={self._requested!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None, "_download": None, "_index": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def _set_closed(self) -> None:
        self._decoder: _Decoder | None = None
        self._download: Download | StoredCopy | None = None
        self._index: FrameIndex | None = None  # of a video file
        self._known_size = None

    def _open(self) -> _Decoder:
        source: Path | bytes | Frames
        durations = None
        if isinstance(self._source, str):
            source = self._local_file(self._source)
            if isinstance(source, bytes):
                pass
            elif source.is_dir():
                source = frame_files(source, self._label)
            elif is_image_file(source) and not is_animated_png(source) and not is_animated_webp(source):
                source = [source]
        elif isinstance(self._source, TimedFrames):
            source, durations = self._source
        else:
            source = self._source
        if isinstance(source, Path | bytes):
            self._decoder = self._open_file(source)
        else:
            self._decoder = StillFrames(source, self._label, self._settings, durations)
        _open_readers.add(self)
        return self._decoder

    def _local_file(self, source: str) -> Path | bytes:
        try:
            content = read_member(source)
        except OSError as error:
            raise VideoDecodeError(self._label, reason_of(error), _CHECK_THE_DATA) from error
        if isinstance(content, bytes):
            return content
        source = content
        if not is_url(source):
            return check_path(source)
        if self._download is None or not self._download.path.exists():
            kind = StoredCopy if is_stored(source) else Download
            self._download = kind(source, self._download_settings)
        return self._download.path

    def _open_file(self, file: Path | bytes) -> _Decoder:
        if self._given_fps is not None:
            raise ValueError(f"fps is {self._given_fps}, but {self._label} is a video file, which brings its own")
        return AnimatedPicture(file, self._label, self._settings) if is_animated_webp(file) else self._open_video(file)

    def _open_video(self, file: Path | bytes) -> _Decoder:
        # The index is PyAV's for every backend: it is what makes their frame numbers mean the same frames.
        pyav = PyAVDecoder(file, self._label, self._index, self._settings)
        self._index = pyav.index
        try:
            if self._requested in ("decord", "torchcodec"):
                pyav.check_plain(self._requested)
            if self._requested == "decord":
                return DecordDecoder(file, self._label, pyav, self._width, self._height)
            if self._requested == "torchcodec":
                return TorchCodecDecoder(file, self._label, pyav)
        except BaseException:
            pyav.close()
            raise
        return pyav

    def _opened(self) -> _Decoder:
        return self._open() if self._decoder is None else self._decoder

    def _metadata(self) -> FrameIndex | StillFrames | AnimatedPicture:
        if self._index is not None:
            return self._index
        decoder = self._opened()
        return decoder if isinstance(decoder, StillFrames | AnimatedPicture) else decoder.index

    def _size(self) -> tuple[int, int]:
        if self._known_size is None:
            _, height, width, _ = self.read([0]).shape
            self._known_size = height, width
        return self._known_size

    def _check_indices(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        array = indices.cpu().numpy() if isinstance(indices, torch.Tensor) else np.asarray(indices)
        if array.size == 0 and array.ndim == 1:
            return array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"indices are {array.dtype} of shape {array.shape}, expected whole numbers in one dimension; "
                "pass a list such as [0, 8, 16]"
            )
        outside = array[(array < 0) | (array >= self.num_frames)]
        if len(outside):
            cause = f"index {outside[0]} is out of range: the video has {self.num_frames} frames"
            raise VideoDecodeError(self._label, cause, f"Ask for frames from 0 to {self.num_frames - 1}.")
        return array.astype(np.int64)


_open_readers: "weakref.WeakSet[VideoReader]" = weakref.WeakSet()


def _forget_inherited_decoders() -> None:
    """Make every reader of a forked child open its source again.

    The threads of a decoder do not survive a fork. Using it in the child waits for them forever, and so does freeing
    it: an extra reference keeps it alive, even when the interpreter ends.
    """
    for reader in list(_open_readers):
        if reader._decoder is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(reader._decoder))
            reader._decoder = None
        reader._lock = threading.RLock()  # a thread that held it is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited_decoders)


def _as_source(source: Any, settings: ReadSettings) -> tuple[str | bytes | Frames | TimedFrames, str]:
    """Return `source` in a form that can be pickled and opened many times, and its name for messages."""
    encoded = encoded_video(source)
    if encoded is not None:
        source, path = encoded["bytes"], encoded["path"]
        if source is not None:
            return _content(source, describe(path or source))
        source = path or ""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return path, describe(path)
    if isinstance(source, bytes | bytearray | memoryview):
        return _content(bytes(source), describe(bytes(source)))
    if isinstance(source, np.ndarray | torch.Tensor):
        label = describe(source)
        return frames_of_array(source, label), label
    if isinstance(source, Image.Image):
        label = describe(source)
        if has_frames(source):
            return frames_of_picture(source, label, settings), label
        return [source], label
    if isinstance(source, list | tuple) and all(
        isinstance(f, Image.Image | np.ndarray | torch.Tensor) for f in source
    ):
        label = describe(source)
        return [image_of(frame, label) for frame in source], label
    if isinstance(source, Iterator) and not hasattr(source, "read"):  # open files are iterators, too
        return _as_source(list(source), settings)
    if hasattr(source, "read"):
        return _content(source.read(), describe(source))
    raise TypeError(f"a video is {_KINDS}; got {_kind_of(source)}{_advice_on(source)}")


def _content(content: Any, label: str) -> tuple[bytes, str]:
    if isinstance(content, str):
        raise TypeError(f'{label} is opened as text; open it with mode "rb"')
    if len(content) == 0:
        cause = "there is nothing to read (0 bytes)"
        raise VideoDecodeError(label, cause, "Rewind the file object with `seek(0)`, or fetch the data again.")
    return bytes(content), label


def _advice_on(source: Any) -> str:
    """Return what to pass instead of what others hold videos in; nothing if it is not known."""
    item = source[0] if isinstance(source, list | tuple) else source
    if isinstance(item, Mapping):
        return "; pass the value that is the video, such as row['video']"
    if hasattr(item, "column_names"):
        return "; pass the column of the videos, such as table['video'], to a processor or a pipeline"
    if hasattr(item, "get_frames_at"):  # of torchcodec, which keeps no path
        return "; pass the path or the bytes that it decodes, or its frames, iter(decoder)"
    return ""


def _kind_of(source: object) -> str:
    if isinstance(source, list | tuple):
        return f"a {type(source).__name__} of {', '.join(sorted({type(f).__name__ for f in source}))}"
    return type(source).__name__
