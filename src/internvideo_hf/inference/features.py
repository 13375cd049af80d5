"""Sliding-window features of long videos, for temporal localization and moment retrieval."""

import glob
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from internvideo_hf.data.contents import content_hash, stamp
from internvideo_hf.inference.encoders import VideoEncoder
from internvideo_hf.inference.runner import cast_of
from internvideo_hf.utils.files import MIN_ROOM, atomic_write, atomic_write_text, check_output, remove_leftovers_of
from internvideo_hf.utils.fingerprints import ends_sha256, json_sha256, text_sha256
from internvideo_hf.utils.journal import Journal, delete_parts
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.settings import changed_settings
from internvideo_hf.utils.storage import AnyPath, StoragePath
from internvideo_hf.utils.transfers import fetched
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

BLOCK = 32  # frames that are decoded before they are processed, which makes them small
BLOCK_BYTES = 1 << 28  # of them, where frames are large; one frame at least
ENDS = 2**20  # bytes of a file's beginning and end that are hashed


@dataclass(frozen=True)
class Settings:
    """The settings that determine a video's features; a file of other settings does not count as done.

    Attributes:
        revision: the model's commit on the Hub, or the hash of its weights.
        window: consecutive frames of a window.
        stride: frames from the start of one window to the start of the next.
        dtype: number type of the model, if it is not the saved one, which `revision` holds.
        fps: frames a second at which the video is sampled; None for all of its frames.
        layer: see `FeatureOptions`.
        pooling: see `FeatureOptions`; None for "auto".
    """

    revision: str
    window: int
    stride: int
    dtype: str | None = None
    fps: float | None = None
    layer: int | None = None
    pooling: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return the settings that are not None; those of files before the others existed are the same."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class FeatureOptions(TypedDict, total=False):
    """Which frames a window has, and what the model makes of them.

    Attributes:
        fps: frames a second at which the video is sampled; None for all of its frames, unless the window is given in
            seconds: then it has as many frames as the model was built for.
        layer: the layer whose tokens are pooled: 0 the embedding, 1 the first layer, -1 the last; None for the model's
            result.
        pooling: a name in `encoders.POOLINGS`: "auto" (the default), "mean", "tokens" or "attention".
    """

    fps: float | None
    layer: int | None
    pooling: str


class Outline(Protocol):
    """What features need to know of a video beside its frames; a `VideoReader` knows it."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def fps(self) -> float | None:
        """Mean frames a second."""

    @property
    def duration(self) -> float | None:
        """Seconds from begin to end."""

    @property
    def timeline(self) -> np.ndarray | None:
        """Begin of each frame and end of the last, see `VideoReader.timeline`."""


Block = tuple[torch.Tensor, list[bool]]
"""Processed frames, `(frames, channels, height, width)`, and whether each is whole; the others are black."""


class Decoding(Protocol):
    """What decodes videos elsewhere than in this process."""

    def outline(self, video: str) -> Outline:
        """Return what is known of a video without its frames."""

    def blocks(
        self, video: str, extractor: "FeatureExtractor", numbers: Sequence[int], *, gaps: bool
    ) -> Iterator[Block]:
        """Yield frames as `FeatureExtractor.blocks` does, divided in another way."""


class FeatureExtractor:
    """Extracts features of videos, one row per window.

    Windows start at frames 0, `stride`, 2 `stride`, ... and end inside the video. A video shorter than one window
    gives one row; its last frame is repeated.

    Args:
        model: folder or Hub name of any model of this package, or of any video encoder of transformers.
        window: consecutive frames of a window, or its seconds, such as "2s".
        stride: from the start of one window to the start of the next, in frames or seconds.
        batch_size: windows per forward pass.
        device: where the model runs; the accelerator if there is one.
        max_memory: the most gigabytes of processed frames to hold at once.
        dtype: number type of the model, such as "float16"; as saved if None. Features are float32 in any case.
        options: see `FeatureOptions`.

    Raises:
        ValueError: if a number is below 1, window, layer or pooling do not suit the model, the frames of a batch of
            windows do not fit into `max_memory`, or the folder lacks weights.
    """

    def __init__(
        self,
        model: str | Path,
        window: int | str = 16,
        stride: int | str = 4,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        max_memory: float = 8.0,
        dtype: str | None = None,
        **options: Unpack[FeatureOptions],
    ):
        fps, layer, pooling = options.get("fps"), options.get("layer"), options.get("pooling", "auto")
        spans = {name: parse_span(value, name) for name, value in (("window", window), ("stride", stride))}
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps={fps} must be above 0 frames a second (--fps).")
        self.batch_size = batch_size
        self.encoder = VideoEncoder(model, layer, pooling, device, dtype)
        self.name, self.model, self.processor = self.encoder.name, self.encoder.model, self.encoder.processor
        frames, steps, fps = _in_frames(spans["window"], spans["stride"], fps, self.encoder.num_frames)
        self.encoder.check_window(frames)
        self._check_memory(frames, steps, max_memory)
        self.settings = Settings(
            self.encoder.revision,
            frames,
            steps,
            cast_of(self.model),
            fps,
            layer,
            None if pooling == "auto" else pooling,
        )
        if layer is not None or not self.encoder.is_ours:
            _ = self.row_shape  # so that what does not fit is said before a video is read

    def rounding(self, window: int | str, stride: int | str) -> str:
        """Return what window and stride became where they were given in seconds and are no whole frames; else "".

        Args:
            window: as of the constructor.
            stride: as of the constructor.
        """
        fps, changed = self.settings.fps or 1.0, []
        for name, asked in (("window", parse_span(window, "window")), ("stride", parse_span(stride, "stride"))):
            frames = getattr(self.settings, name)
            if isinstance(asked, float) and abs(frames / fps - asked) > 1e-6:
                changed.append(f"the {name} is {frames / fps:.4g} s, {frames} frames, in place of {asked:g} s")
        return f"At {fps:.4g} frames a second, {' and '.join(changed)}." if changed else ""

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row, `(dim,)` or `(tokens, dim)`; one window of black frames is encoded to find it."""
        blank = self._process(np.zeros((self.settings.window, 480, 640, 3), np.uint8))
        return tuple(self._embed(blank[None]).shape[1:])

    def rows(
        self,
        reader: VideoReader | Outline,
        first_row: int = 0,
        *,
        gaps: bool = False,
        blocks: Callable[[Sequence[int]], Iterator[Block]] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Yield the features of a video from row `first_row` on, `(rows, dim)` float32 on the CPU, in batches.

        Every frame is decoded and resized once, although several windows contain it.

        Args:
            reader: of the video.
            first_row: the row to begin at.
            gaps: give NaN for windows with a damaged frame, instead of an error.
            blocks: yields the frames of these numbers, in place of the reader.

        Raises:
            VideoDecodeError: if a frame is damaged, unless `gaps`.
        """
        if blocks is None:
            assert isinstance(reader, VideoReader)  # an outline has no frames
            blocks = partial(self.blocks, reader, gaps=gaps)
        window, stride = self.settings.window, self.settings.stride
        numbers = self.frame_numbers(reader)
        last_start = max(len(numbers) - window, 0) // stride * stride
        start = begin = end = first_row * stride  # of the next window; of the processed frames
        frames: list[torch.Tensor] = []
        is_whole: list[bool] = []
        for pixels, whole in blocks(numbers[start:]):
            frames.append(pixels)
            is_whole += whole
            end += len(whole)
            if end == len(numbers) < window:
                frames.append(frames[-1][-1:].expand(window - end, -1, -1, -1))
                is_whole += is_whole[-1:] * (window - end)
                end = window
            is_last = end >= len(numbers)
            while start <= last_start and start + window <= end:
                starts = range(start, min(end - window, last_start) + 1, stride)[: self.batch_size]
                if len(starts) < self.batch_size and not is_last:
                    break
                held = _joined(frames)
                kept = [all(is_whole[s - begin : s - begin + window]) for s in starts]
                clips = [held[s - begin : s - begin + window] for s, keep in zip(starts, kept, strict=True) if keep]
                yield self._embed_whole(clips, kept)
                start = starts[-1] + stride
                spent = min(start, end) - begin
                frames, is_whole, begin = [held[spent:]], is_whole[spent:], begin + spent

    def blocks(self, reader: VideoReader, numbers: Sequence[int], *, gaps: bool = False) -> Iterator[Block]:
        """Decode and process frames, some at a time.

        Args:
            reader: of the video.
            numbers: of the frames, rising or equal.
            gaps: yield damaged frames as black, instead of an error.
        """
        for block in _blocks(reader, numbers, gaps):
            yield processed_block(self._process, block)

    def num_rows(self, reader: Outline) -> int:
        """Return the number of windows of a video."""
        return max(len(self.frame_numbers(reader)) - self.settings.window, 0) // self.settings.stride + 1

    def frame_numbers(self, reader: Outline) -> Sequence[int]:
        """Return the frames of the video in which windows count, rising; some repeat where `fps` is above its own.

        Args:
            reader: of the video.

        Raises:
            VideoDecodeError: if they are sampled by time, and the video has no times.
        """
        return sampled_frames(reader, self.settings.fps)

    def _check_memory(self, window: int, stride: int, max_memory: float) -> None:
        """Refuse windows whose frames do not fit into memory: those of a batch, and once more to stack them."""
        if not max_memory > 0:  # nor NaN
            raise ValueError(f"max_memory={max_memory} must be above 0 gigabytes (--max-memory).")
        frame = self._process(np.zeros((1, 480, 640, 3), np.uint8)).nbytes
        needed = frame * (window + (self.batch_size - 1) * stride + BLOCK + self.batch_size * window) / 1e9
        if needed > max_memory:
            raise ValueError(
                f"window={window} with batch_size={self.batch_size} holds {needed:.1f} GB of frames, more than "
                f"max_memory={max_memory:g} GB. Take a shorter window or a smaller batch, or raise max_memory "
                "(--window, --batch-size, --max-memory)."
            )

    def _process(self, block: np.ndarray) -> torch.Tensor:
        return self.encoder.process(block)

    def _embed(self, clips: torch.Tensor) -> torch.Tensor:
        return self.encoder.encode(clips)

    def _embed_whole(self, clips: list[torch.Tensor], kept: list[bool]) -> torch.Tensor:
        """Embed the windows that are kept, and give NaN for the others."""
        if all(kept):
            return self._embed(torch.stack(clips))
        rows = torch.full((len(kept), *self.row_shape), torch.nan)
        if clips:
            rows[torch.tensor(kept)] = self._embed(torch.stack(clips))
        return rows


def processed_block(process: Callable[[np.ndarray], torch.Tensor], block: Sequence[np.ndarray | None]) -> Block:
    """Process decoded frames.

    Args:
        process: of a `VideoEncoder`.
        block: uint8 `(height, width, 3)` each, RGB; None for those that are damaged.
    """
    is_whole = [frame is not None for frame in block]
    blank = np.zeros((480, 640, 3), np.uint8)
    processed = process(np.stack([frame for frame in block if frame is not None] or [blank]))
    if all(is_whole):
        return processed, is_whole
    pixels = processed.new_zeros(len(block), *processed.shape[1:])
    if any(is_whole):
        pixels[torch.tensor(is_whole)] = processed
    return pixels, is_whole


_SECONDS = re.compile(r"(\d+\.?\d*|\.\d+) ?s")


def parse_span(value: int | str, name: str) -> int | float:
    """Return a number of frames as an integer, or seconds as a float.

    Args:
        value: a number of frames, 1 or more, or seconds above 0, such as "2s".
        name: of the argument.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(value, str) and (match := _SECONDS.fullmatch(value)) and float(match[1]) > 0:
        return float(match[1])
    frames = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(frames, str):
        raise ValueError(f'{name}={value} must be a number of frames, or of seconds, such as "2s" (--{name}).')
    if frames < 1:
        raise ValueError(f"{name}={value} must be at least 1.")
    return frames


def _in_frames(
    window: int | float, stride: int | float, fps: float | None, num_frames: int | None
) -> tuple[int, int, float | None]:
    """Return window and stride in frames, and the rate at which the frames are sampled."""
    if fps is None and isinstance(window, float):
        if num_frames is None:
            raise ValueError(
                f"window={window:g}s: the model does not say how many frames it takes. Give frames a second (--fps)."
            )
        fps = num_frames / window
    if fps is None and isinstance(stride, float):
        raise ValueError(
            f"stride={stride:g}s needs frames that are sampled by time: give the window in seconds too, or the frames "
            "a second (--window, --fps)."
        )
    frames, steps = (
        max(1, round(span * (fps or 1))) if isinstance(span, float) else span for span in (window, stride)
    )
    return frames, steps, fps


def sampled_frames(reader: Outline, fps: float | None) -> Sequence[int]:
    """Return the frames of a video that are shown at times 0, 1 / fps, 2 / fps, ...; all of them if `fps` is None.

    Args:
        reader: of the video.
        fps: frames a second.

    Raises:
        VideoDecodeError: if the video has no times.
    """
    if fps is None:
        return range(reader.num_frames)
    times = reader.timeline
    if times is None:
        raise VideoDecodeError(reader.name, "its frames have no times to sample by", "Leave out the rate (--fps).")
    moments = np.arange(max(1, math.ceil(times[-1] * fps - 1e-6))) / fps
    numbers: list[int] = (np.searchsorted(times[:-1], moments + 1e-6, side="right") - 1).tolist()
    return numbers


def _blocks(reader: VideoReader, numbers: Sequence[int], gaps: bool) -> Iterator[list[np.ndarray | None]]:
    """Yield frames, as many together as `BLOCK` and `BLOCK_BYTES` allow; with `gaps`, None for damaged ones."""
    held: list[np.ndarray | None] = []
    size = 0
    for frame in _repeated(reader, numbers, gaps):
        held.append(frame)
        size += 0 if frame is None else frame.nbytes
        if len(held) == BLOCK or size >= BLOCK_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def _repeated(reader: VideoReader, numbers: Sequence[int], gaps: bool) -> Iterator[np.ndarray | None]:
    """Yield the frames of numbers that rise or stay, each decoded once."""
    if isinstance(numbers, range):
        yield from reader.frames(numbers, skip_damaged=gaps)
        return
    unique, counts = np.unique(np.asarray(numbers), return_counts=True)
    frames = reader.frames(unique.tolist(), skip_damaged=gaps)
    for frame, count in zip(frames, counts.tolist(), strict=True):
        for _ in range(count):
            yield frame


def _joined(frames: list[torch.Tensor]) -> torch.Tensor:
    """Join processed frames; those that are damaged take the size of the others."""
    size = next((part.shape[1:] for part in frames if part.any()), frames[0].shape[1:])
    return torch.cat([part if part.shape[1:] == size else part.new_zeros(len(part), *size) for part in frames])


def extract_to_file(
    extractor: FeatureExtractor,
    video: str | Path,
    path: AnyPath,
    as_npy: bool = False,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
    *,
    overwrite: bool = False,
    as_parquet: bool = False,
    gaps: bool = False,
    decoding: Decoding | None = None,
) -> bool:
    """Write a video's features to `path` (.safetensors, tensor `features`) and a description to `path` with .json.

    Parts beside `path` keep the rows so far, so that the same call continues after an interruption. Files are written
    atomically.

    Args:
        extractor: model, window and stride.
        video: a file, a folder of frames or an address.
        path: the file to write, also of an object store.
        as_npy: also write the features to `path` with .npy.
        on_rows: progress callback `(rows done, all rows)`.
        overwrite: replace features of another video, or of other settings; they stay until the new ones are ready.
        as_parquet: also write a table to `path` with .parquet: `start` and `end` of each row in seconds, `features`.
        gaps: give NaN for windows with a damaged frame, instead of an error.
        decoding: decodes the video; None for this process.

    Returns:
        Whether features were extracted: False if `path` already holds them.

    Raises:
        VideoDecodeError: if the video cannot be read; the rows before the damage are kept for the next call.
        FileExistsError: if `path` holds features of another video, or of other settings, which are named.
        LockedError: if another process writes the file.
        DiskFullError: if there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(path):
        copies = [suffix for suffix, wanted in ((".npy", as_npy), (".parquet", as_parquet)) if wanted]
        for suffix in (path.suffix, ".json", *_COPIES):
            remove_leftovers_of(path.with_suffix(suffix))
        source = _Source.of(str(video))
        if is_new := not _is_done(extractor, source, path, overwrite, gaps):
            _extract(extractor, source, path, copies, gaps, on_rows, decoding)
        else:
            for suffix in copies:
                if not path.with_suffix(suffix).exists():
                    with fetched(path) as file:
                        _COPIES[suffix](path, load_file(file)["features"])
        if isinstance(path, Path):  # in a store, a listing for each video takes too long
            for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*.parts"):  # of any settings
                delete_parts(unfinished)
        return is_new


@dataclass(frozen=True)
class _Source:
    """A video as it is now; read before its frames, so that a change meanwhile is noticed by the next run."""

    video: str
    size: int
    mtime: int

    @classmethod
    def of(cls, video: str) -> "_Source":
        try:
            return cls(video, *stamp(video))
        except FileNotFoundError:  # whose message belongs to the reader
            return cls(video, -1, -1)

    def content(self) -> str:
        """Return the content key: of all bytes of the file."""
        return f"sha256:{content_hash(self.video)}" if self.size >= 0 else f"sha256:{text_sha256(self.video)[:16]}"

    def has_content(self, known: dict[str, Any], sidecar: AnyPath) -> bool:
        """Return whether the video has the content that a description names.

        Args:
            known: the description.
            sidecar: its file.
        """
        content = known.get("content")
        if self.size < 0 or "mtime" in known:
            same = self.size >= 0 and (known.get("size"), known.get("mtime")) == (self.size, self.mtime)
            return same or content == self.content()
        # Version 0.1 hashed the ends of a file. Of a change between them only its time tells.
        if content != _content_of_ends(self.video) or isinstance(sidecar, StoragePath):  # which it did not write to
            return False
        return self.size <= 2 * ENDS or self.mtime < sidecar.stat().st_mtime * 1e9


def _is_done(extractor: FeatureExtractor, source: _Source, path: AnyPath, overwrite: bool, gaps: bool) -> bool:
    """Return whether a file holds the features of a video by these settings; refuse others unless `overwrite`."""
    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        return False
    known = json.loads(sidecar.read_text(encoding="utf-8"))
    problem = ""
    if not source.has_content(known, sidecar):
        problem = f"another video, {known.get('video')}"
    elif changes := changed_settings(*_comparable(known, extractor)):
        problem = f"other settings ({changes})"
    if problem and not overwrite:
        raise FileExistsError(
            f"{path} holds features of {problem}. Replace it by --overwrite (overwrite=True), or name "
            "another folder by --out."
        )
    return not problem and (gaps or not known.get("gaps"))


def _comparable(known: dict[str, Any], extractor: FeatureExtractor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a file's description and of an extractor, in words of their user."""
    now = asdict(extractor.settings)
    before = {name: known.get(name) for name in now}
    before["fps"] = known.get("sampled_fps")  # "fps" is the rate in which windows count, the video's own or this one
    for settings, model in ((before, known.get("model")), (now, extractor.name)):
        settings |= {name: settings[name] or "auto" for name in ("dtype", "pooling")}
        settings["model"] = f"{model} ({settings.pop('revision')})"
    if known.get("revision") == extractor.settings.revision:  # in whatever folder the model is
        before["model"] = now["model"]
    return before, now


def _extract(
    extractor: FeatureExtractor,
    source: _Source,
    path: AnyPath,
    copies: Sequence[str],
    gaps: bool,
    on_rows: Callable[[int, int], None],
    decoding: Decoding | None,
) -> None:
    settings = {**extractor.settings.facts(), "content": source.content()}
    parts = path.parent / f".{path.name}.{json_sha256(settings)[:12]}.parts"
    options: dict[str, Any] = {"gaps": True} if gaps else {}
    if decoding is not None:
        options["blocks"] = partial(decoding.blocks, source.video, extractor, gaps=gaps)
    opened = None if decoding is None else nullcontext(decoding.outline(source.video))
    with opened or VideoReader(source.video, backend="pyav") as reader:
        journal, total = Journal(parts), extractor.num_rows(reader)
        done = len(journal)
        on_rows(done, total)
        for rows in extractor.rows(reader, done, **options) if done < total else ():
            if len(journal) == done:
                # The parts, and the file that they become; once more for each copy.
                place = path.parent if isinstance(path, StoragePath) else path
                check_output(place, MIN_ROOM + (2 + len(copies)) * total * rows[0].nbytes)
            journal.append({"features": rows})
            on_rows(len(journal), total)
        if isinstance(path, Path):  # a store takes the file as quickly as the last part
            journal.write()
        facts = {"video": source.video, **row_times(extractor.settings, total, reader)}
    features = journal.tensors()["features"]
    if found := gaps_of(features, facts["seconds"]):
        facts["gaps"] = found
    for suffix in (path.suffix, *_COPIES):  # the description must not stand beside features of other settings
        path.with_suffix(suffix).unlink(missing_ok=True)
    stamped = {"size": source.size, "mtime": source.mtime}
    text = json.dumps({"model": extractor.name, **settings, **stamped, **facts}, indent=1)
    atomic_write_text(path.with_suffix(".json"), text)
    for suffix in copies:
        _COPIES[suffix](path, features)
    atomic_write(path, lambda file: save_file({"features": features}, file))
    delete_parts(parts)


def load_features(path: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return the features in a file of `extract_to_file`, `(rows, dim)`, and their description.

    Args:
        path: the file.
    """
    description: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return load_file(path)["features"], description


def read_description(path: Path) -> dict[str, Any] | None:
    """Return what `extract_to_file` wrote beside features, or beside a copy of them; None if there is no such file.

    Args:
        path: the file of features.

    Raises:
        ValueError: if the description cannot be read.
    """
    file = path.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {"stride": found["stride"], "fps": found["fps"], "seconds": found["seconds"], **found}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} does not describe features ({reason_of(error)}). Extract them again.") from error


def is_of_video(path: Path, video: str) -> bool:
    """Return whether features with a description are of a video: as its size and time, or else its bytes, tell.

    Args:
        path: the file of features.
        video: a file, a folder of frames or an address.
    """
    sidecar = path.with_suffix(".json")
    return _Source.of(video).has_content(json.loads(sidecar.read_text(encoding="utf-8")), sidecar)


def gaps_of(features: torch.Tensor, seconds: Sequence[Sequence[float]] | None) -> list[list[float]]:
    """Return the stretches that damage leaves out, `[start, end]` in seconds each.

    Args:
        features: `(rows, dim)`, NaN for a window with a damaged frame.
        seconds: begin and end of each row's window; without them there are no stretches.
    """
    if seconds is None:
        return []
    found: list[list[float]] = []
    for first, last in stretches(features.flatten(1).isnan().any(dim=1)):
        # The neighbors' windows are whole: the damage lies between them.
        start = seconds[first - 1][1] if first else seconds[0][0]
        end = seconds[last][0] if last < len(seconds) else seconds[-1][1]
        found.append([min(start, end), max(start, end)])
    return found


def stretches(mask: torch.Tensor) -> list[tuple[int, int]]:
    """Return where a mask `(n,)` is True, as ranges `[first, last)`."""
    changes = torch.cat([mask.new_zeros(1), mask, mask.new_zeros(1)]).int().diff().nonzero()[:, 0].tolist()
    return list(zip(changes[::2], changes[1::2], strict=True))


def _content_of_ends(video: str) -> str:
    """Return the content key of version 0.1: from a file's size, beginning and end, or a folder's files."""
    path = Path(video)
    if path.is_dir():
        digest = json_sha256(sorted((entry.name, entry.stat().st_size) for entry in path.iterdir()))
    else:
        digest = ends_sha256(path, ENDS)
    return f"sha256:{digest[:16]}"


def _save_npy(path: AnyPath, features: torch.Tensor) -> None:
    atomic_write(path.with_suffix(".npy"), lambda file: np.save(file, features.numpy()))


def _save_parquet(path: AnyPath, features: torch.Tensor) -> None:
    from datasets import Dataset  # which takes seconds
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    seconds = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["seconds"]
    starts, ends = zip(*seconds, strict=True) if seconds else ([None] * len(features),) * 2
    table = Dataset.from_dict({"start": starts, "end": ends, "features": list(features.numpy())})
    hidden = are_progress_bars_disabled()
    disable_progress_bars()  # there is one already, of the rows
    try:
        atomic_write(path.with_suffix(".parquet"), lambda file: table.to_parquet(file))
    finally:
        if not hidden:
            enable_progress_bars()


_COPIES = {".npy": _save_npy, ".parquet": _save_parquet}
"""Suffix -> writes the features beside their file, whose description is there."""


def row_times(settings: Settings, rows: int, reader: Outline) -> dict[str, Any]:
    """Return how the rows of a video lie in time, as their description tells.

    Args:
        settings: of the features.
        rows: of the video.
        reader: of the video.

    Returns:
        `fps`, frames a second in which windows count; `num_frames`, all of them; `duration` of the video in seconds;
        `rows`; `seconds`, begin and end of each row's window, None if the video has no times and no frame rate;
        `sampled_fps`, where frames are sampled by time.
    """
    numbers, times = sampled_frames(reader, settings.fps), reader.timeline
    about = {"num_frames": len(numbers), "duration": reader.duration, "rows": rows}
    facts: dict[str, Any] = {"fps": reader.fps, **about, "seconds": None}
    if settings.fps is not None:
        facts |= {"fps": settings.fps, "sampled_fps": settings.fps}
    if times is None:
        return facts
    if settings.fps is not None:
        times = np.append(np.arange(len(numbers)) / settings.fps, times[-1])
    starts = np.arange(rows) * settings.stride
    ends = np.minimum(starts + settings.window, len(numbers))
    return {**facts, "seconds": np.stack([times[starts], times[ends]], axis=1).round(4).tolist()}
