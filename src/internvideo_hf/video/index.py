"""Index of the frames of a video file, made from its packets and not from its header."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain, islice

import av
import av.container
import numpy as np

from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import CHECK_THE_FILE

# A header's rate is the cleaner number (30000/1001 where timestamps in ms say 29.97003), but it can be wrong.
_RATE_TOLERANCE = 0.02

# Containers that store when each frame is shown. AVI and raw streams do not: FFmpeg derives times from the order.
_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "mpeg", "flv", "ogg", "nut", "ivf")
# Codecs whose packets are one frame each, and those of them whose frames are always shown in the order of decoding.
_UNREORDERED = {
    *("mjpeg", "png", "rawvideo", "huffyuv", "ffvhuff", "ffv1", "dvvideo", "prores", "dnxhd", "qtrle"),
    *("msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263", "h263p", "flv1"),
}
_FRAME_BY_FRAME = _UNREORDERED | {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video"}
_H264_RESET = 5  # type of a unit of a picture before which nothing is referred to
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"
_MPEG4_SKIPPED = 16  # bytes: shorter packets of MPEG-4 may say "no picture"
# No codec lets a frame wait for more than 16 others, so times further out of order are those of a joint or a lie.
_LONGEST_WAIT = 32


@dataclass(frozen=True)
class Packet:
    """What the demuxer says of one packet; `pts` and `dts` in ticks of the stream's time base, `size` in bytes.

    `is_open` says of a keyframe of H.264 that later frames may refer to earlier ones. `is_one_picture` is False where
    the codec's own headers say, or may say, that the packet is not one frame at its place: DivX and Xvid pack a
    B-frame with another frame, and put an empty packet in its place.
    """

    pts: int | None
    dts: int | None
    duration: int
    size: int
    is_keyframe: bool
    is_shown: bool
    is_one_picture: bool
    is_open: bool


@dataclass(frozen=True)
class Output:
    """A frame as the decoder gave it: its time in ticks, and whether FFmpeg calls it corrupt.

    A lost one stands for a packet that the decoder could not decode, at this place or near it.
    """

    pts: int | None
    is_corrupt: bool
    is_lost: bool = False


@dataclass(frozen=True)
class FrameTimes:
    """When each frame is shown, and where its packets are; arrays of shape `(num_frames,)`.

    Args:
        pts: presentation time in ticks, strictly rising.
        position: place of the frame's packet in decoding order.
        keyframe: place of the packet from which decoding has to start.
    """

    pts: np.ndarray
    position: np.ndarray
    keyframe: np.ndarray


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one stream in the order in which the decoder gives them, and their packets.

    That is the order of their times, except in files whose times are wrong.

    Args:
        num_frames: frames that can be decoded.
        fps: mean frames a second, `None` where the file does not say.
        duration: seconds from the begin of the first frame to the end of the last, `None` where unknown.
        seconds_per_tick: the stream's time base.
        times: times and packets of the frames; `None` where the packets cannot be matched with the frames, so that
            frames can only be counted while decoding.
        packets: every packet in decoding order.
        stream_index: the stream's number in the file.
        container: FFmpeg's name of the file format.
        outputs: `(num_frames,)` for each frame its place among all that the decoder gives from the start, rising, -1
            where it is damaged or missing. `None` until the file was decoded: its packets promise that frame i is the
            i-th one, and whoever decodes checks it.
        is_cut: whether the file ends in the middle of a packet.
    """

    num_frames: int
    fps: float | None
    duration: float | None
    seconds_per_tick: Fraction
    times: FrameTimes | None
    packets: tuple[Packet, ...]
    stream_index: int
    container: str
    outputs: np.ndarray | None = None
    is_cut: bool = False

    @property
    def has_own_times(self) -> bool:
        """Whether the file has times or its frames need none: FFmpeg derives those of AVI from the frames' order."""
        return self.container in _TIMED or self.outputs is None

    @property
    def shows_all(self) -> bool:
        """Whether every packet is a frame that is shown."""
        return len(self.packets) == self.num_frames

    @property
    def has_closed_groups(self) -> bool:
        """Whether every frame needs only the last keyframe before it."""
        if self.times is None:
            return False
        last_key = np.maximum.accumulate([i if packet.is_keyframe else 0 for i, packet in enumerate(self.packets)])
        return bool((self.times.keyframe == last_key[self.times.position]).all())

    @cached_property
    def has_only_keyframes(self) -> bool:
        """Whether every packet is a keyframe, and is shown."""
        return self.shows_all and all(packet.is_keyframe for packet in self.packets) and self.has_closed_groups

    @property
    def seconds(self) -> np.ndarray | None:
        """`(num_frames,)` presentation time of each frame in seconds, as the file counts them."""
        return None if self.times is None else self.times.pts * float(self.seconds_per_tick)


def read_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    left_out: list["av.Packet[av.VideoStream]"] | None = None,
) -> Iterator["av.Packet[av.VideoStream]"]:
    """Yield the whole packets of `stream` that carry data, up to the end or to where the file is cut off.

    Args:
        container: an open PyAV container, at the place from which to read.
        stream: the video stream.
        left_out: takes the damaged packets at the end.

    Raises:
        av.FFmpegError: if a damaged file holds streams that its begin does not announce.
    """
    damaged, was_damaged = [], False
    try:
        for packet in container.demux(stream):
            # PyAV ends with an empty packet that would flush the decoder; AVI has empty ones in its midst.
            if not packet.size:
                continue
            # A damaged packet is given when another follows: the last one of a cut file is only a part of one, no
            # whole frame comes of it, and the decoder's complaint would take whole frames with it.
            damaged.append(packet)
            if packet.is_corrupt:
                was_damaged = True
            else:
                yield from damaged
                damaged.clear()
        if left_out is not None:
            left_out += damaged
    except av.FFmpegError:
        # A file that was cut off ends here: what came before is what it holds.
        return
    except IndexError as error:
        # PyAV stumbles at the end over streams that came up on the way. A recording may have some; in a damaged file
        # they are pieces of the others.
        if was_damaged:
            message = "it is damaged, and goes on in a stream that its begin does not announce"
            raise av.InvalidDataError(0, message) from error


def decode_packets(
    stream: av.VideoStream,
    packets: Iterable["av.Packet[av.VideoStream]"],
    failures: list[av.FFmpegError] | None = None,
) -> Iterator[av.VideoFrame]:
    """Yield the frames of `packets` as the decoder gives them.

    Args:
        stream: the video stream.
        packets: packets of this stream in decoding order.
        failures: takes the decoder's errors, whose packets are left out; `None` lets the errors through.

    Raises:
        av.FFmpegError: if a packet cannot be decoded, and there is no list to take the error.
    """
    for packet in chain(packets, [None]):
        try:
            yield from stream.decode(packet)
        except av.FFmpegError as error:
            if failures is None:
                raise
            failures.append(error)


def scan_packets(
    container: av.container.InputContainer, stream: av.VideoStream, most: int | None = None
) -> tuple[list[Packet], bool]:
    """Return every packet of `stream` in decoding order, and whether the file ends in the middle of one.

    This reads the file but decodes nothing.

    Args:
        container: a PyAV container opened just before.
        stream: its video stream.
        most: the number of packets after which to stop; `None` for all.
    """
    codec, is_timed = codec_of(stream), container.format.name in _TIMED
    left_out: list[av.Packet[av.VideoStream]] = []
    packets = [
        Packet(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            size=packet.size,
            is_keyframe=packet.is_keyframe,
            # Packets cut away by an edit list are decoded for the others' sake, but the decoder shows no frame.
            is_shown=not (packet.is_discard or _is_hidden(packet, codec)),
            is_one_picture=codec != "mpeg4" or _is_one_picture(bytes(packet), is_timed),
            is_open=codec == "h264" and packet.is_keyframe and _H264_RESET not in _h264_units(bytes(packet)),
        )
        for packet in islice(read_packets(container, stream, left_out), most)
    ]
    return packets, bool(left_out)


def codec_of(stream: av.VideoStream) -> str:
    """Return FFmpeg's name of the codec, whichever decoder it uses.

    Args:
        stream: a video stream.
    """
    return str(stream.codec_context.codec.canonical_name)


def packets_tell_frames(packets: list[Packet], codec: str, container: str) -> bool:
    """Return whether the packets alone tell the frames: each shown one gives one frame, and each has its time.

    Args:
        packets: every packet in decoding order.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's name of the file format.
    """
    if codec not in _FRAME_BY_FRAME or not all(packet.is_one_picture for packet in packets):
        return False
    if container not in _TIMED and codec not in _UNREORDERED and codec != "mpeg4":
        # The derived times are right where no frame waits for another one.
        if not all(packet.is_keyframe for packet in packets):
            return False
    shown = [packet for packet in packets if packet.is_shown]
    times = [packet.pts for packet in shown if packet.pts is not None]
    # Raw streams and some AVI files give no times; two packets of one time are two fields of one frame.
    if len(set(times)) < len(shown) or not times:
        return False
    # Before its first keyframe a decoder gives no frames, neither in decoding nor in presentation order.
    first_key = next((i for i, packet in enumerate(packets) if packet.is_keyframe), None)
    if first_key is None or any(packet.is_shown for packet in packets[:first_key]):
        return False
    first_time = packets[first_key].pts
    if first_time is None or min(times) < first_time:
        return False
    if np.abs(np.argsort(times) - np.arange(len(times))).max() > _LONGEST_WAIT:
        return False
    # What follows a keyframe is shown after what comes before it, or the order of times is not that of the decoder.
    starts = np.cumsum([packet.is_shown for packet in packets]) - [packet.is_shown for packet in packets]
    latest, earliest = np.maximum.accumulate(times), np.minimum.accumulate(times[::-1])[::-1]
    places = [start for start, packet in zip(starts, packets, strict=True) if packet.is_keyframe]
    return all(latest[place - 1] < earliest[place] for place in places if 0 < place < len(times))


def make_index(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    packets: list[Packet],
    decoded: list[Output] | None,
    label: str,
) -> FrameIndex:
    """Return the index of a stream.

    Headers are not asked for the count: webm has none, and a file that was cut off names what it once had.

    Args:
        container: the open PyAV container.
        stream: its video stream.
        packets: every packet in decoding order.
        decoded: every frame as decoding gave them, and the lost ones; `None` where the packets tell the frames.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if the stream holds no frames.
    """
    shown: list[int] | None = [i for i, packet in enumerate(packets) if packet.is_shown]
    if decoded is not None:
        shown = _packets_of(decoded, packets)
    num_frames = len(shown or ()) if decoded is None else len(decoded)
    if num_frames == 0:
        raise VideoDecodeError(label, "its video stream holds no frames", CHECK_THE_FILE)
    times = None if shown is None else _times(packets, shown)
    tick = stream.time_base or Fraction(1)
    fps, duration = _clock(stream, num_frames, times, packets, float(tick))
    return FrameIndex(
        num_frames=num_frames,
        fps=fps,
        duration=duration,
        seconds_per_tick=tick,
        times=times,
        packets=tuple(packets),
        stream_index=stream.index,
        container=container.format.name,
        outputs=None if decoded is None else _places(decoded),
    )


def match_outputs(times: FrameTimes, decoded: list[Output]) -> np.ndarray:
    """Return `outputs` of an index that was made from packets: which of the decoder's frames is each of its frames.

    Args:
        times: those of the index.
        decoded: every frame as decoding gave them, and the lost ones.
    """
    is_whole = not any(o.is_lost or o.is_corrupt for o in decoded)
    decoded = [o for o in decoded if not o.is_lost]
    wanted = times.pts.tolist()
    known = set(wanted)
    given = [(place, o.pts) for place, o in enumerate(decoded) if o.pts is not None and o.pts in known]
    if is_whole and sorted(time for _, time in given) == wanted:
        return np.array([place for place, _ in given])  # all are there: the decoder's order beats that of times
    if is_whole and len(decoded) == len(wanted):
        return np.arange(len(decoded))  # all are there, with the times of others
    first = {time: place for place, time in reversed(given)}
    outputs = _rising(np.array([first.get(time, -1) for time in wanted]))
    corrupt = [place for place, o in enumerate(decoded) if o.is_corrupt]
    return np.where(np.isin(outputs, corrupt), -1, outputs)


def _rising(places: np.ndarray) -> np.ndarray:
    """Return `places` with -1 for as few as possible, so that the others rise: those cannot be told from others."""
    lasts: list[int] = []  # at each length, which place ends the lowest rising row
    before = np.full(len(places), -1)
    for i, place in enumerate(places):
        if place >= 0:
            length = bisect_left(lasts, place, key=lambda last: places[last])
            before[i] = lasts[length - 1] if length else -1
            lasts[length : length + 1] = [i]
    kept, i = np.full(len(places), -1), lasts[-1] if lasts else -1
    while i >= 0:
        kept[i], i = places[i], before[i]
    return kept


def _places(decoded: list[Output]) -> np.ndarray:
    places = np.cumsum([not o.is_lost for o in decoded]) - 1
    return np.where([o.is_lost or o.is_corrupt for o in decoded], -1, places)


def _h264_units(data: bytes) -> set[int]:
    """Return the types of the units of an H.264 packet."""
    if data.startswith((b"\0\0\1", b"\0\0\0\1")):
        return {data[found.end()] & 31 for found in re.finditer(b"\0\0\1(?=.)", data, re.DOTALL)}
    types, place = set(), 0
    while place + 4 < len(data):  # as in MP4: each after its size
        types.add(data[place + 4] & 31)
        place += 4 + int.from_bytes(data[place : place + 4])
    return types


def _is_one_picture(data: bytes, is_timed: bool) -> bool:
    """Return whether an MPEG-4 packet is one picture, and, in files without times, one that waits for no other."""
    if data.count(_MPEG4_PICTURE) != 1 or len(data) < _MPEG4_SKIPPED:
        return False
    start = data.index(_MPEG4_PICTURE) + len(_MPEG4_PICTURE)
    return is_timed or data[start : start + 1] < b"\x80" or data[start : start + 1] >= b"\xc0"  # 10...: a B-frame


def _is_hidden(packet: "av.Packet[av.VideoStream]", codec: str) -> bool:
    """Return whether a VP8 or VP9 packet only holds a reference picture that is never shown."""
    first, last = memoryview(packet)[0], memoryview(packet)[-1]
    if codec.endswith("vp8"):
        return not first & 0x10
    if codec.endswith("vp9"):
        is_superframe = last & 0xE0 == 0xC0
        shows_existing, shows_itself = first & 0x08, first & 0x02
        return not (is_superframe or shows_existing or shows_itself)
    return False


def _packets_of(decoded: list[Output], packets: list[Packet]) -> list[int] | None:
    """Return the places of the packets of decoded frames by their times, `None` where times do not tell them."""
    times = [output.pts for output in decoded if output.pts is not None]
    if len(times) < len(decoded) or any(a >= b for a, b in zip(times, times[1:], strict=False)):
        return None
    places = {packet.pts: i for i, packet in enumerate(packets) if packet.pts is not None}
    if len(places) < len(packets) or not all(time in places for time in times):
        return None
    return [places[time] for time in times]


def _times(packets: list[Packet], shown: list[int]) -> FrameTimes:
    """Sort the packets of frames by time and find the keyframe of each.

    The pictures that follow the keyframe of an open group of pictures but are shown before it refer to the group
    before, so for them that group's keyframe is the one to start from.
    """
    timed = sorted((time, place) for place in shown if (time := packets[place].pts) is not None)
    pts, position = np.array(timed, dtype=np.int64).T
    keys = [(i, packet.pts) for i, packet in enumerate(packets) if packet.is_keyframe and packet.pts is not None]
    before = np.searchsorted([place for place, _ in keys], position, side="right") - 1
    starts = []
    for time, key in zip(pts, before, strict=True):
        while key > 0 and keys[key][1] > time:
            key -= 1
        starts.append(keys[key][0] if key >= 0 else 0)
    return FrameTimes(pts, position, np.array(starts))


def _clock(
    stream: av.VideoStream, num_frames: int, times: FrameTimes | None, packets: list[Packet], tick: float
) -> tuple[float | None, float | None]:
    """Return mean frames a second, and seconds from the begin of the first frame to the end of the last."""
    header = float(stream.average_rate) if stream.average_rate else None
    if times is None:
        return header, num_frames / header if header else None
    span = float(times.pts[-1] - times.pts[0]) * tick
    counted = (num_frames - 1) / span if span > 0 else None
    agrees = header and (counted is None or abs(header / counted - 1) <= _RATE_TOLERANCE)
    fps = header if agrees else counted
    last = packets[times.position[-1]].duration * tick
    if last == 0 and fps:
        last = 1 / fps
    return fps, (span + last) or None
