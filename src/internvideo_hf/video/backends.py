"""Decoders with one interface: `read(sorted unique indices) -> frames` and `close()`."""

import functools
import importlib
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice, takewhile
from pathlib import Path
from typing import Any, TypeAlias
from zlib import crc32

import av
import av.container
import numpy as np
from torch.utils.data import get_worker_info

from internvideo_hf.utils.names import reason_of
from internvideo_hf.video.animation import too_many_pictures
from internvideo_hf.video.containers import check_for_other_decoders, open_container
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.hdr import is_hdr
from internvideo_hf.video.index import (
    FrameIndex,
    FrameTimes,
    Output,
    codec_of,
    decode_packets,
    make_index,
    match_outputs,
    packets_tell_frames,
    read_packets,
    scan_packets,
)
from internvideo_hf.video.rgb import orientation, to_rgb
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import CHECK_THE_FILE
from internvideo_hf.video.stills import check_pixels, picture_size

_Opened = tuple[av.container.InputContainer, av.VideoStream]
_AVPacket: TypeAlias = "av.Packet[av.VideoStream]"

# Decoding on over this many unwanted frames is cheaper than a seek, which empties the decoder's pipeline.
_CHEAPER_THAN_A_SEEK = 8
# Formats of animated pictures, as FFmpeg names them.
_ANIMATIONS = ("gif", "apng")
# FFmpeg draws files that are named as text, such as `a.txt`, as a film of scrolling letters.
_TEXT_CODECS = ("ansi", "bintext", "xbin", "idf")
# Gray levels by which decoders differ in the mean of a 4th by a 4th of a picture, of even sides and of others: each
# scales chroma of odd sides, and pictures to other sizes, in its own way.
_ROUNDING, _SCALING = 2.0, 12.0
# The codec whose decoder shows what it did not decode as it was in an earlier picture; with threads, in any of them.
_LEAVES_GAPS = "hevc"
_REFERRING = (av.video.frame.PictureType.P, av.video.frame.PictureType.B, av.video.frame.PictureType.S)
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
        self._can_seek, self._is_strict, self._has_enough = True, True, False
        self.frames_decoded = 0
        # Until a decoded one is none: AVI and MOV call all frames of H.263 keyframes, and tables may lie.
        self.has_true_keyframes = True
        stream = self._open()[1]
        self._by_group = codec_of(stream) == _LEAVES_GAPS
        # Of the first frame; other sizes, if any, are scaled to it.
        self._size = self._announced_size = (stream.codec_context.width, stream.codec_context.height)
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
        if times is not None and self._by_group:
            return np.stack(
                [self._to_rgb(frame) for frame in self._group_by_group(times, indices) if frame is not None]
            )
        if self._can_seek:
            try:
                return np.stack([self._to_rgb(frame) for frame in self._sought(indices)])
            except _DoubtError:
                # Damage that the decoder conceals depends on what it decoded before. From the start it is always the
                # same, as in FFmpeg's own tool.
                self._can_seek = False
                self.close()
        return np.stack([self._to_rgb(frame) for frame in self._in_order(indices) if frame is not None])

    def stream(self, numbers: Sequence[int], *, skip_damaged: bool = False) -> Iterator[np.ndarray | None]:
        """Yield frames, each decoded once, as uint8 `(height, width, 3)`, RGB.

        Decoding begins at the first frame, the only reliable start in every file but those of HEVC; frames between
        are not converted.

        Args:
            numbers: of the frames, rising.
            skip_damaged: yield None for a frame that is damaged or missing, and go on.

        Raises:
            VideoDecodeError: if a frame is damaged or missing, unless `skip_damaged`.
        """
        for frame in self._rising(numbers, skip_damaged):
            yield None if frame is None else self._to_rgb(frame)

    def stretch(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Yield frames decoded from the keyframe before the first of them, as uint8 `(height, width, 3)`, RGB.

        Args:
            numbers: of the frames, rising.

        Raises:
            VideoDecodeError: if the file shows damage there, or other frames than its packets promise.
        """
        times = self.index.times
        found = self._sought(numbers) if times is None or not self._by_group else self._group_by_group(times, numbers)
        try:
            for frame in found:
                assert frame is not None  # damage is an error
                yield self._to_rgb(frame)
        except _DoubtError:
            self.close()
            cause = f"frames {numbers[0]} to {numbers[-1]} cannot be decoded from a keyframe without doubt"
            raise VideoDecodeError(self._label, cause, "Decode them from the start.") from None

    def pictures(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Yield the frames from `start` on as the decoder gives them: not converted, scaled or turned.

        Raises:
            VideoDecodeError: if a frame is damaged or missing.
        """
        for frame in self._rising(range(start, self.index.num_frames), skip_damaged=False):
            assert frame is not None
            yield frame

    def _rising(self, numbers: Sequence[int], skip_damaged: bool) -> Iterator[av.VideoFrame | None]:
        times = self.index.times
        if times is not None and self._by_group:
            return self._group_by_group(times, numbers, skip_damaged)
        return self._in_order(numbers, skip_damaged)

    def is_undamaged(self) -> bool:
        """Return whether the whole file decodes without a sign of damage, to the promised frames, all of one size."""
        outputs, decoded = self.index.outputs, self._from_start()
        try:
            for number in range(self.index.num_frames):
                frame = next(decoded, None)
                if frame is None or frame.is_corrupt or (frame.width, frame.height) != self._announced_size:
                    return False
                if not (self._is_promised(frame, number) if outputs is None else outputs[number] == number):
                    return False
                self.has_true_keyframes &= not self._is_false_keyframe(frame, number)
        except av.FFmpegError:
            return False
        return not self._by_group or self._is_repeatable()

    def _is_false_keyframe(self, frame: av.VideoFrame, number: int) -> bool:
        times = self.index.times
        is_key = times is not None and self.index.packets[times.position[number]].is_keyframe
        return is_key and frame.pict_type in _REFERRING

    def _is_repeatable(self) -> bool:
        """Return whether one decoder gives the same pictures twice: what it left as it was is then something else."""
        self.close()
        passes = []
        for _ in range(2):
            packets = self._packets_at(0)
            if packets is None or self._opened is None:
                return False
            frames = decode_packets(self._opened[1], packets, [])
            passes.append([crc32(frame.to_ndarray().tobytes()) for frame in frames])
        return passes[0] == passes[1]

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def __del__(self) -> None:
        # A PyAV container that is not closed refers to itself by its streams. It would keep its threads until the
        # garbage collector comes, and a forked child in which that happens would wait for them for ever.
        self.close()

    def _open(self, *, strict: bool = True) -> _Opened:
        self.close()
        # Strict after a seek: any sign of damage makes the decoder fail, and the frames are decoded from the start.
        self._opened = self._open_stream(codec_threads() if strict else 1, strict=strict)
        self._is_strict = strict
        return self._opened

    def _open_stream(self, threads: int, *, strict: bool) -> _Opened:
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
            # FFmpeg names no size where it has refused to decode the first picture of a GIF, an APNG or an MJPEG.
            size = (codec.width, codec.height) if codec.width else picture_size(self._file)
            check_pixels(size, self._label, self._settings)
        except VideoDecodeError:
            container.close()
            raise
        # Frames may be larger than the header says; FFmpeg refuses them before it takes memory for them.
        options = {"max_pixels": str(self._settings.max_pixels)}
        stream.thread_type = "AUTO"
        codec.thread_count = 1 if codec_of(stream) == _LEAVES_GAPS else threads
        codec.options = {**options, "err_detect": "explode"} if strict else options
        return container, stream

    def _make_index(self) -> FrameIndex:
        container, stream = self._opened or self._open()
        try:
            most = self._settings.max_pictures + 1 if container.format.name in _ANIMATIONS else None
            packets, is_cut = scan_packets(container, stream, most)
        except av.FFmpegError as error:
            raise VideoDecodeError(self._label, reason_of(error), CHECK_THE_FILE) from error
        if most is not None and len(packets) == most:
            raise too_many_pictures(self._label, self._settings)
        decoded = None
        if not packets_tell_frames(packets, codec_of(stream), container.format.name):
            decoded = self._outputs()
        index = make_index(container, stream, packets, decoded, self._label)
        return replace(index, is_cut=is_cut)

    def _sought(self, indices: np.ndarray) -> Iterator[av.VideoFrame]:
        """Yield frames decoded from the keyframes before them, those of open groups less strictly.

        Raises:
            _DoubtError: if the file shows damage or other frames than its packets promise.
        """
        times = self.index.times
        outputs = self.index.outputs
        if times is None or (outputs is not None and outputs[indices].min() < 0):
            raise _DoubtError
        for key, run in _runs(times, indices):
            is_open, done = self.index.packets[key].is_open, 0
            try:
                if self._is_strict or not is_open:
                    for frame in self._decode_run(key, times, run):
                        yield frame
                        done += 1
                    continue
            except _DoubtError:
                if not is_open or done == len(run):
                    raise
            # The group refers to pictures of the one before: to forget them is an error where they are not known.
            start = max((i for i in range(key) if self.index.packets[i].is_keyframe), default=key)
            yield from self._decode_run(key, times, run[done:], start)

    def _group_by_group(
        self, times: FrameTimes, numbers: Sequence[int] | np.ndarray, skip_damaged: bool = False
    ) -> Iterator[av.VideoFrame | None]:
        """Yield frames of rising numbers, those of each group decoded by a new decoder.

        Of a damaged frame of HEVC the decoder leaves what is missing as it was in a picture before, without a word.

        Raises:
            VideoDecodeError: if one of them is damaged or missing, unless `skip_damaged`, which gives None.
        """
        for key, group in groupby(map(int, numbers), key=lambda number: int(times.keyframe[number])):
            run, done = list(group), 0
            self.close()
            try:
                for frame in self._decode_run(key, times, run):
                    yield frame
                    done += 1
            except _DoubtError:
                yield from self._in_order(run[done:], skip_damaged)

    def _decode_run(
        self, key: int, times: FrameTimes, run: list[int], start: int | None = None
    ) -> Iterator[av.VideoFrame]:
        """Yield frames that can be decoded from the keyframe at place `key`, strictly unless from an earlier start."""
        # Where every frame is a keyframe, each is decoded by itself, and the others need not be.
        only = {int(times.pts[i]) for i in run} if self.index.has_only_keyframes else None
        first = int(np.searchsorted(times.pts, self.index.packets[key].pts or times.pts[0]))
        expected = iter(run if only else range(first, run[-1] + 1))
        wanted = set(run)
        number = next(expected)
        decoded = self._frames_from(key if start is None else start, only, strict=start is None)
        try:
            for frame in decoded:
                if frame.pts is not None and frame.pts < times.pts[first]:
                    continue
                if frame.pts != times.pts[number] or frame.is_corrupt:
                    raise _DoubtError
                if self._is_false_keyframe(frame, number):
                    raise _DoubtError
                if number in wanted:
                    yield frame
                if number == run[-1]:
                    self._has_enough = True
                    # With threads, frames that are shown may refer to damage in those that are decoded but not shown.
                    if any(frame.is_corrupt for frame in decoded):
                        break
                    return
                number = next(expected)
        except av.FFmpegError:
            pass
        raise _DoubtError

    def _in_order(
        self, numbers: Sequence[int] | np.ndarray, skip_damaged: bool = False
    ) -> Iterator[av.VideoFrame | None]:
        """Yield frames of rising numbers, decoded from the start.

        Raises:
            VideoDecodeError: if one of them is damaged or missing, unless `skip_damaged`, which gives None.
        """
        wanted = set(map(int, numbers))
        decoded, place, frame = self._from_start([]), -1, None
        for number in range(max(wanted, default=-1) + 1):
            if self.index.outputs is None and self.index.times is not None:
                frame, place = next(decoded, None), place + 1
                if frame is None or not self._is_promised(frame, number):
                    # Until here each frame was the promised one, so what is found out now does not change them.
                    self._match_outputs(self.index.times)
            is_whole = True
            if self.index.outputs is not None:
                target = self.index.outputs[number]
                while place < target:
                    frame, place = next(decoded, None), place + 1
                is_whole = target >= 0
            if number in wanted:
                is_whole &= frame is not None
                if not is_whole and not skip_damaged:
                    cause = f"frame {number} cannot be decoded without damage (of {self.index.num_frames} frames)"
                    raise VideoDecodeError(self._label, cause, f"Request other frames. {CHECK_THE_FILE}")
                yield frame if is_whole else None

    def _is_promised(self, frame: av.VideoFrame, number: int) -> bool:
        times = self.index.times
        return times is not None and frame.pts == times.pts[number] and not frame.is_corrupt

    def _match_outputs(self, times: FrameTimes) -> None:
        """Decode the whole stream to find out which of the decoder's frames is each frame of the index."""
        outputs = match_outputs(times, self._outputs())
        self.index = replace(self.index, outputs=outputs)
        self._can_seek = False

    def _outputs(self) -> list[Output]:
        failures: list[av.FFmpegError] = []
        decoded: list[Output] = []
        known = 0
        for frame in self._from_start(failures):
            if decoded:  # before the first frame, packets fail that refer to what was cut away
                decoded += [_LOST] * (len(failures) - known)
            known = len(failures)
            decoded.append(Output(frame.pts, frame.is_corrupt))
        return decoded + [_LOST] * (len(failures) - known if decoded else 0)

    def _from_start(self, failures: list[av.FFmpegError] | None = None) -> Iterator[av.VideoFrame]:
        """Yield the frames of the whole stream, decoded by one thread in a container of its own.

        Several threads report a damaged packet late, and take frames with them that are whole.

        Args:
            failures: takes the decoder's errors; `None` lets them through, and the decoder look for any damage.
        """
        container, stream = self._open_stream(1, strict=failures is None)
        try:
            for frame in decode_packets(stream, read_packets(container, stream), failures):
                self.frames_decoded += 1
                yield frame
        finally:
            container.close()

    def _frames_from(self, key: int, only: Collection[int] | None, *, strict: bool) -> Iterator[av.VideoFrame]:
        """Yield the frames from a keyframe on, until there are enough; with `only`, of packets of these times."""
        if self._is_strict != strict:
            self._open(strict=strict)
        packets = self._packets_at(key)
        if packets is None:
            packets = read_packets(*self._open(strict=strict))
        if only is not None:
            # No further than the last of them, or a file would be read to its end for a few frames.
            packets = islice((packet for packet in packets if packet.pts in only), len(only))
        _, stream = self._opened or self._open(strict=strict)
        self._has_enough = False
        packets = takewhile(lambda _: not self._has_enough, packets)
        for frame in decode_packets(stream, packets, None if strict else []):
            self.frames_decoded += 1
            yield frame

    def _packets_at(self, key: int) -> Iterator[_AVPacket] | None:
        """Return the packets from the one at place `key` or from an earlier one, `None` where no seek gets there."""
        container, stream = self._opened or self._open(strict=self._is_strict)
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
        frame = next(self._from_start([]), None)
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
        if not self.has_true_keyframes:
            return False
        keys = [i for i, packet in enumerate(self.index.packets) if packet.is_keyframe]
        if len(keys) < 2:
            return True
        packets = self._packets_at(keys[1])
        if packets is None:
            return False
        time = self.index.packets[keys[1]].pts
        _, stream = self._opened or self._open()
        return next((frame.pts == time for frame in decode_packets(stream, packets, [])), False)

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        size = frame.width, frame.height
        if size != self._size and self._size == self._announced_size:
            first = next(self._from_start([]), frame)
            self._size = first.width, first.height
        return to_rgb(frame, self._settings.hdr, None if size == self._size else self._size)


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


_LOST = Output(None, is_corrupt=True, is_lost=True)


class _DoubtError(Exception):
    """A file shows damage, or frames that its packets do not promise: it has to be decoded from its start."""


class DecordDecoder:
    """Decoder with decord, which can scale while it decodes as some released protocols do.

    Decord does not tell damaged frames, gives others after damage that it meets while it reads ahead, and ends the
    process on some damaged files. So PyAV decodes the whole file first, and decord is given only undamaged files.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        checker: PyAV's decoder of the file.
        width: pixels to scale to, `None` for those of the file.
        height: pixels to scale to, `None` for those of the file.

    Raises:
        ImportError: if decord does not load on this machine.
        VideoDecodeError: if decord cannot open the file, or would return other frames than the requested ones.
    """

    name = "decord"
    frames_decoded = None

    def __init__(
        self, file: Path | bytes, label: str, checker: PyAVDecoder, width: int | None = None, height: int | None = None
    ):
        problem = decord_problem()
        if problem:
            raise ImportError(f"the decord backend does not load: {problem}. `pip install decord` or use another.")
        import decord

        index = checker.index
        seconds = _check_whole(checker, file, label, self.name)
        self._label, self._checker, self.index = label, checker, index
        self._errors = (decord.DECORDError, RuntimeError, IndexError, StopIteration)
        source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
        try:
            self._reader = decord.VideoReader(
                source, width=width or -1, height=height or -1, num_threads=codec_threads()
            )
            told = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0]
        except self._errors as error:
            raise VideoDecodeError(label, f"decord cannot open it ({reason_of(error)})", _TRY_PYAV) from error
        # It counts frames that an edit hides at the begin, and half a packet where a file is cut off.
        if not any(_same_times(part, seconds) for part in (told[: len(seconds)], told[-len(seconds) :])):
            raise _differs(label, self.name)
        is_counted = len(self._reader) == index.num_frames
        self._can_seek = is_counted and index.shows_all and index.has_closed_groups and checker.shows_keyframes()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: rising frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if decord fails to decode a frame, or returns another.
        """
        try:
            frames = self._seek_each(indices) if self._can_seek else self._read_from_start(indices)
        except self._errors as error:
            raise VideoDecodeError(self._label, f"decord fails ({reason_of(error)})", _TRY_PYAV) from error
        if not _look_alike(frames, self._checker.read(indices)):
            raise _differs(self._label, self.name)
        return frames

    def close(self) -> None:
        """Release decord's reader."""
        self._reader = None
        self._checker.close()

    def _seek_each(self, indices: np.ndarray) -> np.ndarray:
        return _as_numpy(self._reader.get_batch(indices.tolist()))

    def _read_from_start(self, indices: np.ndarray) -> np.ndarray:
        # After a seek decord counts the frames from the keyframe on, and is wrong by those that the decoder does not
        # show there (the leading pictures of open groups, most HEVC has them). Read in order it is right.
        wanted = set(indices.tolist())
        self._reader.seek(0)
        decoded = ((i, self._reader.next()) for i in range(indices[-1] + 1))
        return np.stack([_as_numpy(frame) for i, frame in decoded if i in wanted])


class TorchCodecDecoder:
    """Decoder with torchcodec in its exact mode; the approximate one returns other frames at variable rates.

    Torchcodec does not tell damaged frames, and gives others after damage that it meets while it reads ahead. So PyAV
    decodes the whole file first, and torchcodec is given only undamaged files.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        checker: PyAV's decoder of the file.

    Raises:
        ImportError: if torchcodec does not load on this machine.
        VideoDecodeError: if torchcodec cannot open the file.
    """

    name = "torchcodec"
    frames_decoded = None

    def __init__(self, file: Path | bytes, label: str, checker: PyAVDecoder):
        problem = torchcodec_problem()
        if problem:
            raise ImportError(f"the torchcodec backend does not load: {problem}. Install FFmpeg, or use another.")
        from torchcodec.decoders import VideoDecoder

        self._label, self._checker, self.index = label, checker, checker.index
        self._seconds = _check_whole(checker, file, label, self.name)
        # After a seek it misses frames that refer to what an edit hides, and what a false keyframe refers to.
        if not checker.has_true_keyframes or not (self.index.has_closed_groups or self.index.shows_all):
            raise _differs(label, self.name)
        self._decoder: Any  # torchcodec's types are not there where it is not installed
        try:
            self._decoder = VideoDecoder(
                file if isinstance(file, bytes) else str(file),
                stream_index=self.index.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=codec_threads(),
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            raise VideoDecodeError(label, f"torchcodec cannot open it ({reason_of(error)})", _TRY_PYAV) from error
        begin = self._decoder.metadata.begin_stream_seconds_from_content
        # It counts what comes before the first keyframe; then its times tell the frames.
        is_same = len(self._decoder) > len(self._seconds) or abs(begin - self._seconds[0]) <= _half_gap(self._seconds)
        if len(self._decoder) < len(self._seconds) or not is_same:
            raise _differs(label, self.name)

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
                batch = self._decoder.get_frames_played_at((seconds + _half_gap(self._seconds)).tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoDecodeError(self._label, f"torchcodec fails ({reason_of(error)})", _TRY_PYAV) from error
        frames = batch.data.numpy()
        is_same = np.abs(batch.pts_seconds.numpy() - seconds).max() <= 1e-6
        if not is_same or not _look_alike(frames, self._checker.read(indices)):
            raise _differs(self._label, self.name)
        return frames

    def close(self) -> None:
        """Release torchcodec's decoder."""
        self._decoder = None
        self._checker.close()


def _same_times(told: np.ndarray, seconds: np.ndarray) -> bool:
    # Decord counts from the first frame in some files, in float32.
    if len(told) != len(seconds):
        return False
    error = np.abs((told - told[0]) - (seconds - seconds[0])).max()
    return bool(error <= max(_half_gap(seconds), (seconds[-1] - seconds[0]) * 1e-6))


def _look_alike(frames: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether two decoders give the same pictures, but for the rounding of each and the size."""
    if frames.ndim != 4 or len(frames) != len(expected) or frames.dtype != np.uint8:
        return False
    height, width = expected.shape[1:3]
    limit = _SCALING if height % 2 or width % 2 or frames.shape != expected.shape else _ROUNDING
    return all(abs(_means(one) - _means(other)).max() <= limit for one, other in zip(frames, expected, strict=True))


def _means(frame: np.ndarray) -> np.ndarray:
    """Return the means of 4 x 4 parts of a frame, `(4, 4, channels)`.

    Not by torch, whose threads hang in a child that was forked behind their first use.
    """
    height, width = frame.shape[:2]
    tops, lefts = np.arange(4) * height // 4, np.arange(4) * width // 4
    sums = np.add.reduceat(np.add.reduceat(frame, tops, axis=0, dtype=np.int64), lefts, axis=1)
    heights, widths = np.diff(tops, append=height).clip(1), np.diff(lefts, append=width).clip(1)
    means: np.ndarray = sums / (heights[:, None] * widths)[..., None]
    return means


def _half_gap(seconds: np.ndarray) -> float:
    return float(np.diff(seconds).min(initial=1.0)) / 2


def _differs(label: str, decoder: str) -> VideoDecodeError:
    cause = f"it is damaged, or its times are wrong, so that {decoder} may return other frames than FFmpeg"
    return VideoDecodeError(label, cause, _TRY_PYAV)


@functools.cache
def torchcodec_problem() -> str | None:
    """Return why torchcodec cannot decode on this machine, `None` where it can; asked once a process."""
    try:
        torchcodec = importlib.import_module("torchcodec")
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return reason_of(error)
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
        return reason_of(error)
    return None


def _check_whole(checker: PyAVDecoder, file: Path | bytes, label: str, name: str) -> np.ndarray:
    """Return the time of each frame in seconds, or refuse a file of which the named decoder may give other frames."""
    index = checker.index
    # Both return other frames for MPEG transport and program streams, and for B-frames in AVI, decord without a word.
    if index.seconds is None or index.container in ("mpegts", "mpeg") or not index.has_own_times:
        raise VideoDecodeError(label, f"{name} does not find single frames in a {index.container} file", _TRY_PYAV)
    check_for_other_decoders(file, label, name)
    if index.is_cut or not checker.is_undamaged():
        raise _differs(label, name)
    return index.seconds


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
