"""Cut clips out of videos: encoded, exact to the frame, or copied from keyframe to keyframe."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from internvideo_hf.curation.stages import Outcome, Row
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.transcoding import TranscodeSettings, cut_video
from internvideo_hf.utils.files import atomic_path, remove_leftovers
from internvideo_hf.utils.names import check_name, reason_of
from internvideo_hf.video.containers import open_container
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

EXACT, KEYFRAME = "exact", "keyframe"
CUTS = (EXACT, KEYFRAME)
"""Ways of cutting."""
_FIRST_LETTERS = 2  # of an id, which are the name of a folder: no folder then holds millions of files
_RATE = 25.0  # frames a second, where the file has no times
_SLACK = 5e-4  # seconds: tables round times to milliseconds


def cut_exact(
    reader: VideoReader, target: Path, start: float, end: float, encoding: TranscodeSettings
) -> tuple[float, float]:
    """Encode the frames of a clip, without sound.

    Args:
        reader: of the video, with `backend="pyav"`.
        target: the file to write, atomically.
        start: of the clip in seconds; the first frame at or behind it is the first.
        end: of the clip; the frame at it is not part of it.
        encoding: size and quality.

    Returns:
        Begin and end of the clip in seconds.

    Raises:
        VideoDecodeError: if no frame lies there, or one cannot be decoded.
        OSError: if the file cannot be written.
    """
    times = reader.timeline
    if times is None:
        times = np.arange(reader.num_frames + 1) / _RATE
    first, last = np.searchsorted(times[:-1], [start - _SLACK, end - _SLACK]).tolist()
    if first >= last:
        raise VideoDecodeError(reader.name, _outside(start, end, times[-1]), "Check the table.")
    cut_video(reader, target, range(first, last), encoding)
    return float(times[first]), float(times[last])


def cut_at_keyframes(video: str | Path, target: Path, start: float, end: float) -> tuple[float, float]:
    """Copy the encoded frames of a clip, from the last keyframe before its start, without sound.

    Fast, and no pixel changes; the clip begins up to a keyframe's distance earlier, and ends a few frames later where
    frames are stored in another order than they are shown.

    Args:
        video: a file.
        target: the .mp4 file to write, atomically.
        start: of the clip in seconds.
        end: of the clip.

    Returns:
        Begin and end of the clip in seconds.

    Raises:
        VideoDecodeError: if no frame lies there, the file cannot be read, or MP4 cannot hold its codec.
    """
    video = Path(video).absolute()
    with open_container(video) as reading:
        stream = reading.streams.best("video")
        if stream is None or stream.time_base is None:
            raise VideoDecodeError(str(video), "it holds no video", "Leave it out.")
        origin, tick = stream.start_time or 0, stream.time_base
        try:
            reading.seek(origin + int(start / tick), stream=stream, backward=True)
            with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as writing:
                times = _copy(reading, stream, writing, (origin + int(start / tick), origin + int(end / tick)))
        except av.FFmpegError as error:
            raise VideoDecodeError(str(video), f"it cannot be cut ({reason_of(error)})", "Use --cut exact.") from error
    if times is None:
        target.unlink(missing_ok=True)
        raise VideoDecodeError(str(video), _outside(start, end, None), "Check the table.")
    first, last = times
    return float((first - origin) * tick), float((last - origin) * tick)


def _copy(reading: Any, stream: Any, writing: Any, clip: tuple[int, int]) -> tuple[int, int] | None:
    """Copy packets until the clip's end; return the begin of the first frame and the end of the last, in ticks."""
    copied, shift, first, last = writing.add_stream_from_template(stream), None, None, 0
    for packet in reading.demux(stream):
        if packet.dts is None or packet.pts is None:
            continue
        if packet.dts >= clip[1]:  # all that follow in the file are shown later still
            break
        if first is None:
            if not packet.is_keyframe or packet.pts >= clip[1]:
                continue
            first, shift = packet.pts, packet.dts
        last = max(last, packet.pts + (packet.duration or 0))
        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copied
        writing.mux(packet)
    return None if first is None or last <= clip[0] else (first, last)


def _outside(start: float, end: float, length: float | None) -> str:
    known = "" if length is None else f", and it ends at {length:.3f} s"
    return f"no frame lies between {start:.3f} s and {end:.3f} s{known}"


@dataclass(frozen=True)
class Clips:
    """The stage that cuts the clips of each video, a row for each.

    Args:
        folder: of the build; clips go to `clips/AB/SOURCE_START_END.mp4` in it.
        cut: "exact" or "keyframe".
        encoding: of exact cuts.

    Raises:
        ValueError: if `cut` is unknown.
    """

    folder: Path
    cut: str = EXACT
    encoding: TranscodeSettings = TranscodeSettings()
    name: str = "clips"
    rows_per_shard: int = 1
    runs_model: bool = False

    def __post_init__(self) -> None:
        check_name(self.cut, CUTS, "cut")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The way of cutting, and of exact cuts the encoding."""
        return {"cut": self.cut} | (asdict(self.encoding) if self.cut == EXACT else {})

    def on_device(self, device: Any) -> "Clips":
        """Return the stage, which runs no model."""
        return self

    def load(self) -> None:
        """Load nothing."""

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return a row for each clip, or the failure of the clip or of the whole video."""
        return [outcome for row in rows for outcome in self._outcomes(row)]

    def files(self, row: Row) -> list[Path]:
        """Return the clip."""
        return [self.folder / row["clip"]]

    def _outcomes(self, row: Row) -> list[Outcome]:
        folder = self.folder / "clips" / row["source"][:_FIRST_LETTERS]
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        outcomes: list[Outcome] = []
        try:
            with one_video(row["video"]), VideoReader(self.folder / row["video"], backend="pyav") as reader:
                for segment in row["segments"]:
                    outcomes.append(self._outcome(row, segment, reader))
        except VideoDecodeError as error:
            outcomes.append(error)
        return outcomes

    def _outcome(self, row: Row, segment: Row, reader: VideoReader) -> Outcome:
        start, end = segment["start"], segment["end"]
        name = f"clips/{row['source'][:_FIRST_LETTERS]}/{row['source']}_{start:.3f}_{end:.3f}.mp4"
        try:
            with one_video(name):
                if self.cut == EXACT:
                    times = cut_exact(reader, self.folder / name, start, end, self.encoding)
                else:
                    times = cut_at_keyframes(self.folder / row["video"], self.folder / name, start, end)
        except VideoDecodeError as error:
            return error
        known = {"source": row["source"], "url": row["url"], "clip": name, "start": times[0], "end": times[1]}
        return {**known, "caption": segment["caption"], "about": segment["about"]}
