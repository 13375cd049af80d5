"""Decoders with one interface: `read(sorted unique indices) -> frames` and `close()`."""

import functools
import importlib
import io
from collections.abc import Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import av
import av.container
import numpy as np
from torch.utils.data import get_worker_info

from internvideo_hf.video.animation import too_many_pictures
from internvideo_hf.video.containers import check_for_other_decoders, open_container
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.hdr import is_hdr
from internvideo_hf.video.index import (
    FrameIndex,
    FrameTimes,
    decode_packets,
    make_index,
    packets_tell_frames,
    read_packets,
    scan_packets,
)
from internvideo_hf.video.rgb import orientation, to_rgb
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import CHECK_THE_FILE
from internvideo_hf.video.stills import check_pixels

_Opened = tuple[av.container.InputContainer, av.VideoStream]
_AVPacket: TypeAlias = "av.Packet[av.VideoStream]"

# Decoding on over this many unwanted frames is cheaper than a seek, which empties the decoder's pipeline.
_CHEAPER_THAN_A_SEEK = 8
# Formats of animated pictures, as FFmpeg names them.
_ANIMATIONS = ("gif", "apng")
# FFmpeg draws files that are named as text, such as `a.txt`, as a film of scrolling letters.
_TEXT_CODECS = ("ansi", "bintext", "xbin", "idf")
_TRY_PYAV = 'Use `backend="pyav"` for this file.'


def codec_threads() -> int:
    """Return 1 inside a DataLoader worker, where the workers already share the cores, else 2."""
    return 1 if get_worker_info() is not None else 2


class PyAVDecoder:
    """Decoder with PyAV, which seeks to the keyframe before each requested frame and decodes from there.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        index: the file's index, `None` to make it.
        settings: limits, and what to do with HDR; `None` for the process's own.

    Raises:
        VideoDecodeError: if the file cannot be opened, holds no video, or is larger than a limit.
    """

    name = "pyav"

    def __init__(
        self, file: Path | bytes, label: str, index: FrameIndex | None = None, settings: ReadSettings | None = None
    ):
        self._file = file
        self._label = label
        self._settings = settings or ReadSettings.default()
        self._opened: _Opened | None = None
        self.frames_decoded = 0
        self._open()
        self.index = index or self._make_index()
        self._places = {packet.pts: i for i, packet in enumerate(self.index.packets)}

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: rising frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if a frame is damaged or missing.
        """
        times = self.index.times
        frames = self._read_in_order(indices) if times is None else self._read_by_time(times, indices)
        missing = [int(i) for i in indices if i not in frames]
        if missing:
            cause = f"frame {missing[0]} cannot be decoded ({len(missing)} of the {len(indices)} requested frames)"
            raise VideoDecodeError(self._label, cause, f"Request other frames. {CHECK_THE_FILE}")
        sizes = {frames[i].shape[:2] for i in indices}
        if len(sizes) > 1:
            cause = f"the frame size changes within the video ({', '.join(f'{h}x{w}' for h, w in sorted(sizes))})"
            raise VideoDecodeError(self._label, cause, "Encode it again with one size.")
        return np.stack([frames[i] for i in indices])

    def stream(self, start: int) -> Iterator[np.ndarray]:
        """Yield the frames from `start` on, each decoded once, as uint8 `(height, width, 3)`, RGB.

        Decoding begins at the first frame, the only reliable start in every file; earlier frames are not converted.

        Raises:
            VideoDecodeError: if a frame is damaged or missing.
        """
        expected, times = 0, self.index.times
        for frame in self._frames_from(None):
            if expected == self.index.num_frames:
                return
            if times is not None and frame.pts != times.pts[expected]:
                if frame.pts is not None and frame.pts < times.pts[expected]:
                    continue  # a frame that the file hides
                break
            if expected >= start:
                yield to_rgb(frame, self._settings.hdr)
            expected += 1
        if expected < self.index.num_frames:
            cause = f"frame {expected} of {self.index.num_frames} cannot be decoded"
            raise VideoDecodeError(self._label, cause, CHECK_THE_FILE)

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def __del__(self) -> None:
        # A PyAV container that is not closed refers to itself by its streams. It would keep its threads until the
        # garbage collector comes, and a forked child in which that happens would wait for them for ever.
        self.close()

    def _open(self, threads: int | None = None) -> _Opened:
        self.close()
        container = open_container(self._file, self._label, self._settings)
        stream = best_video_stream(container)
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams})
            container.close()
            cause = f"it holds no video stream (only: {', '.join(kinds) or 'nothing'})"
            raise VideoDecodeError(self._label, cause, "Pass a file with a picture.")
        codec = stream.codec_context
        if codec is None or codec.name in _TEXT_CODECS:
            container.close()
            cause = "it is text" if codec else "FFmpeg here has no decoder for its picture"
            raise VideoDecodeError(self._label, cause, "Pass a video, or convert it to H.264 first.")
        try:
            check_pixels((codec.width, codec.height), self._label, self._settings)
        except VideoDecodeError:
            container.close()
            raise
        # Frames may be larger than the header says; FFmpeg refuses them before it takes memory for them.
        codec.options = {"max_pixels": str(self._settings.max_pixels)}
        stream.thread_type = "AUTO"
        codec.thread_count = threads or codec_threads()
        self._opened = container, stream
        return self._opened

    def _make_index(self) -> FrameIndex:
        container, stream = self._opened or self._open()
        is_animation = container.format.name in _ANIMATIONS
        packets = scan_packets(container, stream, self._settings.max_pictures + 1 if is_animation else None)
        if is_animation and len(packets) > self._settings.max_pictures:
            raise too_many_pictures(self._label, self._settings)
        decoded = None if packets_tell_frames(packets) else [frame.pts for frame in self._frames_from(None)]
        return make_index(*(self._opened or self._open()), packets, decoded, self._label)

    def _read_by_time(self, times: FrameTimes, indices: np.ndarray) -> dict[int, np.ndarray]:
        frames: dict[int, np.ndarray] = {}
        for key, run in _runs(times, indices):
            frames.update(self._decode_from(key, times, run))
        missing = [i for i in indices if i not in frames]
        if missing:
            # A keyframe that is none, or a gradual refresh longer than its group: the whole stream is sure.
            frames.update(self._decode_from(None, times, missing))
        return frames

    def _decode_from(self, key: int | None, times: FrameTimes, run: list[int]) -> dict[int, np.ndarray]:
        wanted = {int(times.pts[i]): i for i in run}
        last = max(wanted)
        found: dict[int, np.ndarray] = {}
        # Where every frame is a keyframe, each is decoded by itself, and the others need not be.
        only = wanted if key is not None and self.index.has_only_keyframes else None
        for frame in self._frames_from(key, only):
            if frame.pts in wanted and wanted[frame.pts] not in found:
                found[wanted[frame.pts]] = to_rgb(frame, self._settings.hdr)
            is_past = key is not None and frame.pts is not None and frame.pts > last
            if len(found) == len(wanted) or is_past:
                break
        return found

    def _read_in_order(self, indices: np.ndarray) -> dict[int, np.ndarray]:
        wanted = set(indices.tolist())
        found = {}
        for i, frame in enumerate(self._frames_from(None)):
            if i in wanted:
                found[i] = to_rgb(frame, self._settings.hdr)
            if len(found) == len(wanted):
                break
        return found

    def _frames_from(self, key: int | None, only: Collection[int] | None = None) -> Iterator[av.VideoFrame]:
        """Yield the frames from a keyframe on, or from the start; with `only`, those of packets of these times."""
        packets = self._packets_at(key) if key is not None else None
        if packets is None:
            # Several threads report a damaged packet late, and take frames with them that are whole.
            packets = read_packets(*self._open(threads=1))
        if only is not None:
            # No further than the last of them, or a file would be read to its end for a few frames.
            packets = islice((packet for packet in packets if packet.pts in only), len(only))
        _, stream = self._opened or self._open()
        for frame in decode_packets(stream, packets):
            self.frames_decoded += 1
            yield frame

    def _packets_at(self, key: int) -> Iterator[_AVPacket] | None:
        """Return the packets from the one at place `key` or from an earlier one, `None` where no seek gets there."""
        container, stream = self._opened or self._open()
        packet = self.index.packets[key]
        # MP4 finds its place by decoding time, Matroska by presentation time; the later one saves a group.
        for time in (packet.pts, packet.dts):
            if time is None:
                continue
            try:
                container.seek(time, stream=stream)
            except av.FFmpegError:
                continue
            packets = read_packets(container, stream)
            first = next(packets, None)
            place = self._places.get(first.pts) if first is not None else None
            if first is not None and place is not None and place <= key:
                return self._as_indexed(place, first, packets)
        return None

    def _as_indexed(self, place: int, first: _AVPacket, rest: Iterator[_AVPacket]) -> Iterator[_AVPacket]:
        """Yield packets as long as they are those that the index has from `place` on.

        After a seek, MPEG program streams give packets the times of others, so the right time proves nothing alone.
        """
        for packet, expected in zip(chain([first], rest), self.index.packets[place:], strict=False):
            if (packet.pts, packet.size) != (expected.pts, expected.size):
                return
            yield packet

    def check_plain(self, decoder: str) -> None:
        """Refuse a file whose pictures another decoder shows in another way than PyAV does here.

        Args:
            decoder: name of the other one.

        Raises:
            VideoDecodeError: if the first frame is mirrored, or HDR that is to be mapped.
        """
        frame = next(self._frames_from(None), None)
        if frame is None:
            return
        if not orientation(frame).is_rotation:
            cause = f"its display matrix mirrors the picture, which {decoder} takes for a rotation"
            raise VideoDecodeError(self._label, cause, _TRY_PYAV)
        if self._settings.hdr == "tonemap" and is_hdr(frame.color_trc):
            cause = f"it is HDR (PQ or HLG), which {decoder} takes for ordinary colors"
            raise VideoDecodeError(
                self._label,
                cause,
                f'{_TRY_PYAV[:-1]}, or `--hdr ignore`, in Python `settings=ReadSettings(hdr="ignore")`.',
            )

    def shows_keyframes(self) -> bool:
        """Return whether a decoder that starts at a keyframe shows that very frame first.

        It does not where "keyframes" only begin a gradual refresh of the picture. One of them stands for all.
        """
        keys = [i for i, packet in enumerate(self.index.packets) if packet.is_keyframe]
        if len(keys) < 2:
            return True
        packets = self._packets_at(keys[1])
        if packets is None:
            return False
        time = self.index.packets[keys[1]].pts
        _, stream = self._opened or self._open()
        return next((frame.pts == time for frame in decode_packets(stream, packets)), False)


def _runs(times: FrameTimes, indices: np.ndarray) -> list[tuple[int, list[int]]]:
    """Return (keyframe, frames) such that each run is decoded from its keyframe without another seek."""
    runs: list[tuple[int, list[int]]] = []
    reached = 0
    for i in indices:
        key = times.keyframe[i]
        if runs and key <= reached + _CHEAPER_THAN_A_SEEK:
            runs[-1][1].append(i)
        else:
            runs.append((key, [i]))
        reached = times.position[i]
    return runs


class DecordDecoder:
    """Decoder with decord, which can scale while it decodes as some released protocols do.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        index: the file's index.
        width: pixels to scale to, `None` for those of the file.
        height: pixels to scale to, `None` for those of the file.

    Raises:
        ImportError: if decord does not load on this machine.
        VideoDecodeError: if decord cannot open the file, or would return other frames than the requested ones.
    """

    name = "decord"
    frames_decoded = None

    def __init__(
        self, file: Path | bytes, label: str, index: FrameIndex, width: int | None = None, height: int | None = None
    ):
        problem = decord_problem()
        if problem:
            raise ImportError(f"the decord backend does not load: {problem}. `pip install decord` or use another.")
        import decord

        _check_seekable(index, self.name, label)
        check_for_other_decoders(file, label, self.name)
        self._label = label
        self.index = index
        self._error = decord.DECORDError
        self._can_seek = index.has_closed_groups and _shows_keyframes(file, label, index)
        source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
        try:
            self._reader = decord.VideoReader(
                source, width=width or -1, height=height or -1, num_threads=codec_threads()
            )
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoDecodeError(label, f"decord cannot open it ({_first_line(error)})", _TRY_PYAV) from error
        self._can_seek = self._can_seek and len(self._reader) == index.num_frames

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: rising frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if decord fails to decode a frame.
        """
        try:
            return self._seek_each(indices) if self._can_seek else self._read_from_start(indices)
        except (self._error, RuntimeError, IndexError, StopIteration) as error:
            raise VideoDecodeError(self._label, f"decord fails ({_first_line(error)})", _TRY_PYAV) from error

    def close(self) -> None:
        """Release decord's reader."""
        self._reader = None

    def _seek_each(self, indices: np.ndarray) -> np.ndarray:
        return _as_numpy(self._reader.get_batch(indices.tolist()))

    def _read_from_start(self, indices: np.ndarray) -> np.ndarray:
        # After a seek decord counts the frames from the keyframe on, and is wrong by those that the decoder does not
        # show there (the leading pictures of open groups, most HEVC has them). Read in order it is right.
        wanted = set(indices.tolist())
        self._reader.seek(0)
        frames = []
        for i in range(indices[-1] + 1):
            frame = self._reader.next()
            if i in wanted:
                frames.append(_as_numpy(frame))
        return np.stack(frames)


class TorchCodecDecoder:
    """Decoder with torchcodec in its exact mode; the approximate one returns other frames at variable rates.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        index: the file's index.

    Raises:
        ImportError: if torchcodec does not load on this machine.
        VideoDecodeError: if torchcodec cannot open the file.
    """

    name = "torchcodec"
    frames_decoded = None

    def __init__(self, file: Path | bytes, label: str, index: FrameIndex):
        problem = torchcodec_problem()
        if problem:
            raise ImportError(f"the torchcodec backend does not load: {problem}. Install FFmpeg, or use another.")
        from torchcodec.decoders import VideoDecoder

        self._label = label
        self.index = index
        self._seconds = _check_seekable(index, self.name, label)
        check_for_other_decoders(file, label, self.name)
        self._decoder: Any  # torchcodec's types are not there where it is not installed
        try:
            self._decoder = VideoDecoder(
                file if isinstance(file, bytes) else str(file),
                stream_index=index.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=codec_threads(),
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            raise VideoDecodeError(label, f"torchcodec cannot open it ({_first_line(error)})", _TRY_PYAV) from error

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: rising frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if torchcodec fails to decode a frame, or returns another.
        """
        seconds = self._seconds[indices]
        try:
            if len(self._decoder) == self.index.num_frames:
                batch = self._decoder.get_frames_at(indices.tolist())
            else:
                # It counts other packets than the index does (half a packet at a cut), so only times tell frames.
                batch = self._decoder.get_frames_played_at((seconds + self._half_gap()).tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoDecodeError(self._label, f"torchcodec fails ({_first_line(error)})", _TRY_PYAV) from error
        if np.abs(batch.pts_seconds.numpy() - seconds).max() > 1e-6:
            raise VideoDecodeError(self._label, "torchcodec returns other frames than the requested ones", _TRY_PYAV)
        return batch.data.numpy()

    def close(self) -> None:
        """Release torchcodec's decoder."""
        self._decoder = None

    def _half_gap(self) -> float:
        return float(np.diff(self._seconds).min(initial=1.0)) / 2


@functools.cache
def torchcodec_problem() -> str | None:
    """Return why torchcodec cannot decode on this machine, `None` where it can; asked once a process."""
    try:
        torchcodec = importlib.import_module("torchcodec")
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _first_line(error)
    # Newer releases import without FFmpeg, for their image decoders, and fail at the first video only.
    if getattr(torchcodec, "ffmpeg_major_version", 0) is None:
        return "it finds no FFmpeg libraries that fit it and torch"
    return None


@functools.cache
def decord_problem() -> str | None:
    """Return why decord cannot decode on this machine, `None` where it can; asked once a process."""
    try:
        importlib.import_module("decord")
    except (ImportError, OSError, RuntimeError) as error:
        return _first_line(error)
    return None


def _check_seekable(index: FrameIndex, name: str, label: str) -> np.ndarray:
    """Return the time of each frame in seconds, or refuse a file in which single frames are not found."""
    # Both return other frames for MPEG transport and program streams, decord without a word.
    if index.seconds is None or index.container in ("mpegts", "mpeg"):
        raise VideoDecodeError(label, f"{name} does not find single frames in a {index.container} file", _TRY_PYAV)
    return index.seconds


def _shows_keyframes(file: Path | bytes, label: str, index: FrameIndex) -> bool:
    decoder = PyAVDecoder(file, label, index)
    try:
        return decoder.shows_keyframes()
    finally:
        decoder.close()


def _as_numpy(frames: Any) -> np.ndarray:
    # Users may have told decord, for the whole process, to return tensors of another library.
    return frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames)


def best_video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the stream that FFmpeg takes for the video, never a cover picture; None where there is none."""
    # The cover picture of a song is a video stream of one frame to FFmpeg, and an audio file to everybody else.
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVER_PICTURE]
    best = container.streams.best("video")
    return next((stream for stream in streams if stream is best), next(iter(streams), None))


_COVER_PICTURE = av.stream.Disposition.attached_pic


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
