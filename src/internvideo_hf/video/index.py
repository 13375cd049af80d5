"""Index of the frames of a video file, made from its packets and not from its header."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice

import av
import av.container
import numpy as np

from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import CHECK_THE_FILE

# A header's rate is the cleaner number (30000/1001 where timestamps in ms say 29.97003), but it can be wrong.
_RATE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Packet:
    """What the demuxer says of one packet; `pts` and `dts` in ticks of the stream's time base, `size` in bytes."""

    pts: int | None
    dts: int | None
    duration: int
    size: int
    is_keyframe: bool
    is_shown: bool


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
    """The frames of one stream in presentation order, and the packets from which they are decoded.

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
    """

    num_frames: int
    fps: float | None
    duration: float | None
    seconds_per_tick: Fraction
    times: FrameTimes | None
    packets: tuple[Packet, ...]
    stream_index: int
    container: str

    @property
    def has_closed_groups(self) -> bool:
        """Whether every frame needs only the last keyframe before it, and every packet is a frame that is shown."""
        if self.times is None or len(self.packets) != self.num_frames:
            return False
        last_key = np.maximum.accumulate([i if packet.is_keyframe else 0 for i, packet in enumerate(self.packets)])
        return bool((self.times.keyframe == last_key[self.times.position]).all())

    @cached_property
    def has_only_keyframes(self) -> bool:
        """Whether every packet is a keyframe, and is shown."""
        return all(packet.is_keyframe for packet in self.packets) and self.has_closed_groups

    @property
    def seconds(self) -> np.ndarray | None:
        """`(num_frames,)` presentation time of each frame in seconds, as the file counts them."""
        return None if self.times is None else self.times.pts * float(self.seconds_per_tick)


def read_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator["av.Packet[av.VideoStream]"]:
    """Yield the whole packets of `stream` that carry data, up to the end or to where the file is cut off.

    Args:
        container: an open PyAV container, at the place from which to read.
        stream: the video stream.
    """
    damaged = []
    try:
        for packet in container.demux(stream):
            # PyAV ends with an empty packet that would flush the decoder; AVI has empty ones in its midst.
            if not packet.size:
                continue
            # A damaged packet is given when another follows: the last one of a cut file is only a part of one, no
            # whole frame comes of it, and the decoder's complaint would take whole frames with it.
            damaged.append(packet)
            if not packet.is_corrupt:
                yield from damaged
                damaged.clear()
    except av.FFmpegError:
        # A file that was cut off ends here: what came before is what it holds.
        return


def decode_packets(stream: av.VideoStream, packets: Iterable["av.Packet[av.VideoStream]"]) -> Iterator[av.VideoFrame]:
    """Yield the frames of `packets` in presentation order, leaving out the packets that cannot be decoded.

    Args:
        stream: the video stream.
        packets: packets of this stream in decoding order.
    """
    for packet in packets:
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            # The frame of a damaged packet is missing; whoever asked for it sees that by its time.
            continue
    try:
        yield from stream.decode(None)
    except av.FFmpegError:
        return


def scan_packets(
    container: av.container.InputContainer, stream: av.VideoStream, most: int | None = None
) -> list[Packet]:
    """Return every packet of `stream` in decoding order, which reads the file but decodes nothing.

    Args:
        container: a PyAV container opened just before.
        stream: its video stream.
        most: the number of packets after which to stop; `None` for all.
    """
    codec = stream.codec_context.name
    return [
        Packet(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            size=packet.size,
            is_keyframe=packet.is_keyframe,
            # Packets cut away by an edit list are decoded for the others' sake, but the decoder shows no frame.
            is_shown=not (packet.is_discard or _is_hidden(packet, codec)),
        )
        for packet in islice(read_packets(container, stream), most)
    ]


def packets_tell_frames(packets: list[Packet]) -> bool:
    """Return whether the packets alone tell the frames: each shown one gives one frame, and each has its time.

    Args:
        packets: every packet in decoding order.
    """
    shown = [packet for packet in packets if packet.is_shown]
    times = {packet.pts for packet in shown if packet.pts is not None}
    # Raw streams and some AVI files give no times; two packets of one time are two fields of one frame.
    if len(times) < len(shown):
        return False
    # Before its first keyframe a decoder gives no frames, neither in decoding nor in presentation order.
    first_key = next((i for i, packet in enumerate(packets) if packet.is_keyframe), None)
    if first_key is None or any(packet.is_shown for packet in packets[:first_key]):
        return False
    first_time = packets[first_key].pts
    return first_time is not None and all(time >= first_time for time in times)


def make_index(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    packets: list[Packet],
    decoded: list[int | None] | None,
    label: str,
) -> FrameIndex:
    """Return the index of a stream.

    Headers are not asked for the count: webm has none, and a file that was cut off names what it once had.

    Args:
        container: the open PyAV container.
        stream: its video stream.
        packets: every packet in decoding order.
        decoded: the time of every frame as decoding gave them, in ticks; `None` where the packets tell the frames.
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
    )


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


def _packets_of(decoded: list[int | None], packets: list[Packet]) -> list[int] | None:
    """Return the places of the packets of decoded frames by their times, `None` where times do not tell them."""
    times = [time for time in decoded if time is not None]
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
