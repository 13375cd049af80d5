"""Shot boundaries of videos, and the clips that they divide them into."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.curation.stages import Outcome, Row
from internvideo_hf.data.failures import one_video
from internvideo_hf.utils.names import check_name
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

_WIDTH = 256  # pixels that frames are scaled down to, as PySceneDetect does by default
_RATE = 25.0  # frames a second, where the file has no times
_FIXED = "fixed"
# Detector -> its class in PySceneDetect, and its argument for the threshold.
_CLASSES = {
    "content": ("ContentDetector", "threshold"),
    "adaptive": ("AdaptiveDetector", "adaptive_threshold"),
    "histogram": ("HistogramDetector", "threshold"),
    "hash": ("HashDetector", "threshold"),
}
DETECTORS = (*_CLASSES, _FIXED)
"""Names of detectors: those of PySceneDetect, and "fixed", which cuts every `seconds`."""


@dataclass(frozen=True)
class ShotSettings:
    """How a video is divided into clips.

    Args:
        detector: one of `DETECTORS`. "content" at 27 is that of InternVid's paper.
        threshold: of the detector; PySceneDetect's default if None: content 27, adaptive 3, histogram 0.2, hash 0.35.
        seconds: length of the clips of "fixed".
        min_frames: the least frames of a shot; shorter ones are joined.
        min_seconds: shorter clips are left out.
        max_seconds: longer clips are left out.

    Raises:
        ValueError: if the detector is unknown, or a number is out of range.
    """

    detector: str = "content"
    threshold: float | None = None
    seconds: float = 10.0
    min_frames: int = 15
    min_seconds: float = 1.0
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        check_name(self.detector, DETECTORS, "detector")
        if not (self.seconds > 0 and self.min_frames >= 1 and 0 <= self.min_seconds < self.max_seconds):
            raise ValueError(
                f"got {self}, expected seconds above 0, min_frames of at least 1, and min_seconds of at least 0 and "
                "less than max_seconds"
            )
        if self.threshold is not None and (self.threshold <= 0 or self.detector == _FIXED):
            raise ValueError(
                f"threshold is {self.threshold} of the detector {self.detector!r}, expected more than 0, and none for "
                f"{_FIXED!r}"
            )


def find_shots(video: str, settings: ShotSettings) -> list[tuple[float, float]]:
    """Divide a video into shots.

    Frames come from our reader and not from PySceneDetect's, which would let a file name others.

    Args:
        video: a file.
        settings: detector and threshold. The lengths to leave out are not applied.

    Returns:
        Begin and end of each in seconds, without gaps, from 0 to the end of the video.

    Raises:
        VideoDecodeError: if the video cannot be read.
        ImportError: if PySceneDetect is not installed, for all detectors but "fixed".
    """
    with VideoReader(video, backend="pyav") as reader:
        times = reader.timeline
        if times is None:
            times = np.arange(reader.num_frames + 1) / _RATE
        if settings.detector == _FIXED:
            marks = np.arange(settings.seconds, times[-1], settings.seconds)
            cuts = sorted(set(np.searchsorted(times, marks - 1e-6).tolist()))
        else:
            cuts = _cuts(reader, settings)
        edges = [0, *(cut for cut in cuts if 0 < cut < reader.num_frames), reader.num_frames]
        return [(float(times[first]), float(times[last])) for first, last in zip(edges, edges[1:], strict=False)]


def _cuts(reader: VideoReader, settings: ShotSettings) -> list[int]:
    """Return the numbers of the frames that begin a shot."""
    timecode, detector = _detector(settings)
    position, cuts = timecode(0), []
    for number, (frame,) in enumerate(reader.blocks(1)):
        position = timecode(number)
        cuts += detector.process_frame(position, _small(frame))
    cuts += detector.post_process(position)
    return sorted({int(cut.frame_num) for cut in cuts})


def _detector(settings: ShotSettings) -> tuple[Callable[[int], Any], Any]:
    """Return what makes a time of PySceneDetect of a frame's number, and the detector."""
    try:
        import scenedetect
    except ImportError as error:
        raise ImportError(
            "Shots need PySceneDetect: pip install 'internvideo-hf[curation]'; --detector fixed does without."
        ) from error
    name, argument = _CLASSES[settings.detector]
    options: dict[str, Any] = {} if settings.threshold is None else {argument: settings.threshold}
    detector = getattr(scenedetect, name)(min_scene_len=settings.min_frames, **options)
    # Numbers are what counts; the rate is that of no file.
    return (lambda number: scenedetect.FrameTimecode(number, _RATE)), detector


def _small(frame: np.ndarray) -> np.ndarray:
    """Return a frame as detectors take it: BGR, of about `_WIDTH` pixels."""
    import cv2

    factor = max(frame.shape[:2]) / _WIDTH
    if factor > 1:
        size = (max(1, round(frame.shape[1] / factor)), max(1, round(frame.shape[0] / factor)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(frame[..., ::-1])


@dataclass(frozen=True)
class Shots:
    """The stage that finds the clips of videos, unless a table has named them.

    Args:
        folder: of the build, from which downloads are named.
        shots: how.
    """

    folder: Path
    shots: ShotSettings
    name: str = "shots"
    rows_per_shard: int = 4
    runs_model: bool = False

    @property
    def settings(self) -> Mapping[str, Any]:
        """All of `ShotSettings`."""
        return asdict(self.shots)

    def on_device(self, device: Any) -> "Shots":
        """Return the stage, which runs no model."""
        return self

    def load(self) -> None:
        """Load nothing."""

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows with `segments`, and how many were `left_out` by cause."""
        return [self._outcome(row) for row in rows]

    def files(self, row: Row) -> list[Any]:
        """Return nothing: no file is written."""
        return []

    def _outcome(self, row: Row) -> Outcome:
        try:
            with one_video(row["video"]):
                segments = row["segments"]
                if segments is None:
                    found = find_shots(str(self.folder / row["video"]), self.shots)
                    segments = [{"start": start, "end": end, "caption": None, "about": {}} for start, end in found]
                left_out: Counter[str] = Counter()
                kept = [segment for segment in segments if not self._is_left_out(segment, left_out)]
                return {**row, "segments": kept, "left_out": dict(left_out)}
        except VideoDecodeError as error:
            return error

    def _is_left_out(self, segment: Row, left_out: Counter[str]) -> bool:
        seconds = segment["end"] - segment["start"]
        if seconds < self.shots.min_seconds:
            left_out[f"shorter than {self.shots.min_seconds:g} s"] += 1
        elif seconds > self.shots.max_seconds:
            left_out[f"longer than {self.shots.max_seconds:g} s"] += 1
        else:
            return False
        return True
