"""Transcode videos for training: small frames, and dense keyframes, so that any frame is reached quickly."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath

import av
import av.container
import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.executors.base import Executor
from internvideo_hf.data.executors.processes import WHOLE_TIMEOUT, map_unordered, time_limit
from internvideo_hf.utils.files import atomic_path, remove_leftovers
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.settings import changed_settings
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path, is_stored
from internvideo_hf.utils.transfers import fetched
from internvideo_hf.video.backends import PyAVDecoder
from internvideo_hf.video.containers import open_container
from internvideo_hf.video.copies import StoredCopy
from internvideo_hf.video.downloads import DownloadSettings
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.hdr import is_hdr
from internvideo_hf.video.members import read_member
from internvideo_hf.video.reader import VideoReader
from internvideo_hf.video.rgb import Orientation, orientation, to_rgb
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import check_file, is_url

_MARK = "internvideo shrink "  # prefix of the settings in the comment of a file that we wrote
_SETTINGS_FILE = "shrink.json"  # of a folder in a store
_RATE = 25  # frames a second, where the file has no rate
_CLOCK = Fraction(1, 90_000)  # seconds per tick of cuts


@dataclass(frozen=True)
class TranscodeSettings:
    """Encoding of a video: H.264 in MP4, 4:2:0, no sound.

    Args:
        short_side: pixels of the shorter side, even. Smaller videos keep their size.
        keyframe_interval: frames from a keyframe to the next, at least 1.
        quality: x264's constant rate factor, 0 (no loss) to 51.

    Raises:
        ValueError: if a number is out of range.
    """

    short_side: int = 320
    keyframe_interval: int = 12
    quality: int = 23

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2 or self.keyframe_interval < 1 or not 0 <= self.quality <= 51:
            raise ValueError(
                f"got {self}, expected an even short side of at least 16 pixels, a keyframe interval of at least 1 "
                "frame, and a quality from 0 to 51"
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the small video for those of the source, both even as 4:2:0 needs them."""
        scale = min(self.short_side / min(height, width), 1.0)
        even_height, even_width = (max(2 * round(side * scale / 2), 2) for side in (height, width))
        return even_height, even_width


def transcode_video(source: str | Path, target: str | AnyPath, settings: TranscodeSettings) -> bool:
    """Encode a video with the same frames at the same times; the rotation that the file asks for is applied.

    Args:
        source: a video file, or an object of a store.
        target: the file to write, atomically; also of an object store.
        settings: the encoding.

    Returns:
        False if `target` exists, made with these settings, else True.

    Raises:
        VideoDecodeError: if the video cannot be read to its end.
        FileExistsError: if `target` is another file.
        LockedError: if another process writes it.
        OSError: if it cannot be written; a DiskFullError if there is no room.
    """
    target, comment = as_path(target), _MARK + json.dumps(asdict(settings), sort_keys=True)
    if target.exists():
        there = _comment_of(target)
        if there == comment:
            return False
        raise FileExistsError(f"{target} {_difference(there, settings)}. Choose another folder, or delete it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(target), atomic_path(target) as temporary, _local_file(str(source)) as file:
        decoder = PyAVDecoder(file, str(source))
        try:
            _encode(decoder, temporary, settings, comment)
        finally:
            decoder.close()
    return True


@contextmanager
def _local_file(source: str) -> Iterator[Path | bytes]:
    """Yield the file of a video, the bytes of one that lies in another, or a copy of an object of a store."""
    content = read_member(source)
    if isinstance(content, bytes):
        yield content
        return
    source = content
    if is_stored(source):
        with closing(StoredCopy(source, DownloadSettings.default())) as copy:
            yield copy.path
        return
    yield check_file(source, "Frame files can be read as fast as they are.")


def cut_video(reader: VideoReader, target: str | Path, frames: range, settings: TranscodeSettings) -> None:
    """Encode consecutive frames of a video as a video that begins at 0 and that browsers play.

    Args:
        reader: of the video; for a long one with `backend="pyav"`, which decodes each frame once.
        target: the file to write, atomically.
        frames: numbers of the frames, at least one.
        settings: the encoding.

    Raises:
        VideoDecodeError: if a frame cannot be decoded.
        OSError: if the file cannot be written.
    """
    rate = _rate(reader.fps)
    times = np.arange(reader.num_frames) / float(rate) if reader.seconds is None else reader.seconds
    blocks = reader.blocks(1, frames.start)  # nothing behind the last one is touched, which may be damaged
    pictures = (
        (times[number] - times[frames.start], pixels) for number, (pixels,) in zip(frames, blocks, strict=False)
    )
    write_pictures(pictures, target, reader.fps, settings)


def write_pictures(
    pictures: Iterable[tuple[float, NDArray[np.uint8]]],
    target: str | Path,
    fps: float | None,
    settings: TranscodeSettings,
) -> None:
    """Encode pictures as a video that browsers play.

    Args:
        pictures: time in seconds, rising from 0, and RGB pixels, uint8 `(height, width, 3)`, all of one size.
        target: the file to write, atomically.
        fps: frames a second that the file names, 25 if None; the times count.
        settings: the encoding.

    Raises:
        OSError: if the file cannot be written.
    """
    target, encoder, size = Path(target), None, (0, 0)
    try:
        # The table of frames at the front, so that a browser plays what has come.
        with (
            atomic_path(target) as temporary,
            av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as writing,
        ):
            for time, pixels in pictures:
                if encoder is None:
                    size = settings.size(*pixels.shape[:2])
                    encoder = _encoder(writing, _rate(fps), _CLOCK, size, settings)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame = frame.reformat(size[1], size[0], format="yuv420p", interpolation="BICUBIC")
                frame.pts, frame.time_base = round(time / _CLOCK), _CLOCK
                writing.mux(encoder.encode(frame))
            if encoder is not None:
                writing.mux(encoder.encode(None))
    except av.FFmpegError as error:
        raise OSError(f"{target} cannot be written ({reason_of(error)}).") from error


def _comment_of(path: AnyPath) -> str | None:
    try:
        with fetched(path) as file, open_container(file.absolute()) as container:
            return container.metadata.get("comment")
    except VideoDecodeError:
        return None


def _difference(comment: str | None, settings: TranscodeSettings) -> str:
    """Return in what a file, by its comment, is not what these settings make."""
    if comment is None or not comment.startswith(_MARK):
        return "was not made by `internvideo shrink`"
    with suppress(json.JSONDecodeError, RecursionError):
        before = json.loads(comment.removeprefix(_MARK))
        if isinstance(before, dict):
            return f"was made with other settings ({changed_settings(before, asdict(settings))})"
    return "was not made with these settings"


def _encode(decoder: PyAVDecoder, target: Path, settings: TranscodeSettings, comment: str) -> None:
    index, encoder, hdr = decoder.index, None, ReadSettings.default().hdr
    # The source's own clock, so that frames at uneven distances keep them.
    rate, clock = _rate(index.fps), index.seconds_per_tick
    times = np.arange(index.num_frames) / float(rate) if index.seconds is None else index.seconds - index.seconds[0]
    try:
        with av.open(str(target), "w", format="mp4") as writing:
            writing.metadata["comment"] = comment
            for time, decoded in zip(times, decoder.pictures(), strict=True):
                frame = _as_shown(decoded, hdr)
                if encoder is None:
                    size = settings.size(frame.height, frame.width)
                    encoder = _encoder(writing, rate, clock, size, settings)
                small = frame.reformat(size[1], size[0], format="yuv420p", interpolation="BICUBIC")
                small.pts, small.time_base = round(time / clock), clock
                small.pict_type = 0  # the encoder decides, or the old keyframes would stay
                writing.mux(encoder.encode(small))
            if encoder is not None:
                writing.mux(encoder.encode(None))
    except av.FFmpegError as error:
        raise OSError(f"{target} cannot be written ({reason_of(error)}).") from error


def _rate(fps: float | None) -> Fraction:
    return Fraction(fps or _RATE).limit_denominator(1001)


def _as_shown(frame: av.VideoFrame, hdr: str) -> av.VideoFrame:
    is_plain = orientation(frame) == Orientation() and not frame.interlaced_frame
    if is_plain and not (hdr == "tonemap" and is_hdr(frame.color_trc)):
        return frame
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(to_rgb(frame, hdr)), format="rgb24")


def _encoder(
    writing: av.container.OutputContainer,
    rate: Fraction,
    clock: Fraction,
    size: tuple[int, int],
    settings: TranscodeSettings,
) -> av.VideoStream:
    encoder = writing.add_stream("libx264", rate=rate)
    encoder.height, encoder.width = size
    encoder.pix_fmt = "yuv420p"
    encoder.codec_context.time_base = clock
    encoder.codec_context.gop_size = settings.keyframe_interval
    encoder.codec_context.thread_count = 1
    # x264's macroblock tree reads memory that it did not write: with it, the same frames give other pixels each time.
    options = "scenecut=0:open-gop=0:mbtree=0"
    encoder.options = {"crf": str(settings.quality), "preset": "veryfast", "x264-params": options}
    return encoder


def targets_of(videos: Sequence[str], folder: str | AnyPath, root: str | AnyPath | None = None) -> dict[str, AnyPath]:
    """Name the target of each video: the same path below `folder` as below `root`, with the suffix .mp4.

    Args:
        videos: files, or objects of stores.
        folder: directory of the small videos.
        root: a folder above all videos; their lowest common one where None.

    Raises:
        ValueError: if two videos would go to one file, one to its own place, or one is not below `root`.
    """
    folder, paths = as_path(folder), [_absolute(video) for video in videos]
    top = _common_folder(paths) if root is None else _absolute(str(as_path(root)))
    targets: dict[str, AnyPath] = {}
    taken: dict[AnyPath, str] = {}
    for video, path in zip(videos, paths, strict=True):
        if not path.startswith(f"{top.rstrip('/')}/"):
            raise ValueError(f"{video} is not below {top}, so it has no place in {folder}. Shrink it by itself.")
        target = folder / PurePosixPath(path.removeprefix(top).lstrip("/")).with_suffix(".mp4")
        if target in taken:
            raise ValueError(f"{taken[target]} and {video} would both go to {target}: shrink them one by one.")
        if _absolute(str(target)) == path:
            raise ValueError(f"{video} would be replaced by its small copy. Name another folder.")
        targets[video], taken[target] = target, video
    return targets


def _absolute(video: str) -> str:
    """Return an address, or an absolute path, with slashes."""
    return video if is_url(video) else Path(os.path.abspath(video)).as_posix()


def _common_folder(paths: Sequence[str]) -> str:
    folders = [path.split("/")[:-1] for path in paths]
    common = os.path.commonprefix(folders)  # of lists, item by item
    if folders and is_url(paths[0]) and len(common) < 3:  # scheme, nothing, bucket
        other = next((path for path in paths if path.split("/")[:3] != paths[0].split("/")[:3]), paths[0])
        raise ValueError(f"{paths[0]} and {other} have no folder in common: shrink them one by one.")
    return "/".join(common) or "/"


def videos_there(folder: StoragePath, targets: Collection[AnyPath], settings: TranscodeSettings) -> set[AnyPath]:
    """Return the targets that an earlier run wrote, by a listing; its settings are in an object beside them.

    Args:
        folder: of the small videos, in a store.
        targets: below it.
        settings: of this run; written there if nothing is.

    Raises:
        FileExistsError: if one of them was made with other settings, or by something else.
    """
    mark, found = folder / _SETTINGS_FILE, {folder / name for name in folder.files()}
    there = {target for target in targets if target in found}
    if mark in found:
        comment = _MARK + mark.read_text()
        if there and comment != _MARK + json.dumps(asdict(settings), sort_keys=True):
            raise FileExistsError(f"{folder} {_difference(comment, settings)}. Choose another folder, or delete it.")
    elif there:
        raise FileExistsError(f"{min(map(str, there))} {_difference(None, settings)}. Choose another folder.")
    mark.write_bytes(json.dumps(asdict(settings), sort_keys=True).encode())
    return there


def transcode_videos(
    targets: Mapping[str, AnyPath],
    settings: TranscodeSettings,
    *,
    jobs: int = 1,
    timeout: float | None = None,
    executor: Executor | None = None,
    on_done: Callable[[], object] = lambda: None,
    on_failed: Callable[[VideoDecodeError, str], object] = lambda error, video: None,
) -> tuple[int, list[str]]:
    """Encode videos, except those that are done; the same call resumes an interrupted one.

    Args:
        targets: video -> the file to write, see `targets_of`.
        settings: the encoding.
        jobs: processes.
        timeout: seconds after which the decoder of a video counts as hung; 3600 by default.
        executor: runs the encoders, `jobs` at once, in place of processes of this machine.
        on_done: called after each video.
        on_failed: called with each error, when it comes, and its video.

    Returns:
        The number of videos that were done before, and the messages of those that failed.

    Raises:
        ValueError: if `jobs` is below 1.
    """
    for folder in {target.parent for target in targets.values()}:
        remove_leftovers(folder)
    already, failures = 0, []
    task = partial(_transcode_pair, settings=settings)
    pairs = list(targets.items())
    if executor is None:
        limit = time_limit(timeout, WHOLE_TIMEOUT, apart=jobs > 1)
        results = map_unordered(task, pairs, jobs, _source_of, timeout=limit)
    else:
        results = executor.map_ordered(task, pairs, jobs, _source_of, timeout=time_limit(timeout, WHOLE_TIMEOUT))
    for (video, _), result in results:
        if isinstance(result, VideoDecodeError):
            failures.append(str(result))
            on_failed(result, video)
        already += result is False
        on_done()
    return already, failures


def _source_of(pair: tuple[str, AnyPath]) -> str:
    return pair[0]


def _transcode_pair(pair: tuple[str, AnyPath], settings: TranscodeSettings) -> bool:
    return transcode_video(*pair, settings)
