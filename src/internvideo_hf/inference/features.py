"""Sliding-window features of long videos, for temporal localization and moment retrieval."""

import glob
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoVideoProcessor

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.data.contents import content_hash, stamp
from internvideo_hf.inference.runner import cast_of, load_model, video_features
from internvideo_hf.models.common.loading import revision
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.utils.files import MIN_ROOM, atomic_write, atomic_write_text, check_output, remove_leftovers_of
from internvideo_hf.utils.fingerprints import ends_sha256, json_sha256, text_sha256
from internvideo_hf.utils.journal import Journal, delete_parts
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.settings import changed_settings
from internvideo_hf.video import VideoReader

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
    """

    revision: str
    window: int
    stride: int
    dtype: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return the settings that are not None; those of files before `dtype` existed are the same."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class FeatureExtractor:
    """Extracts features of videos, one row per window.

    Windows start at frames 0, `stride`, 2 `stride`, ... and end inside the video. A video shorter than one window
    gives one row; its last frame is repeated.

    Args:
        model: folder or Hub name of any model of this package; its pooled output is the feature.
        window: consecutive frames of a window.
        stride: frames from the start of one window to the start of the next.
        batch_size: windows per forward pass.
        device: where the model runs; the accelerator if there is one.
        max_memory: the most gigabytes of processed frames to hold at once.
        dtype: number type of the model, such as "float16"; as saved if None. Features are float32 in any case.

    Raises:
        ValueError: if a number is below 1, the window does not suit the model, the frames of a batch of windows do
            not fit into `max_memory`, or the folder lacks weights.
    """

    def __init__(
        self,
        model: str | Path,
        window: int = 16,
        stride: int = 4,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        max_memory: float = 8.0,
        dtype: str | None = None,
    ):
        for name, number in (("window", window), ("stride", stride), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name}={number} must be at least 1.")
        self.batch_size = batch_size
        self.name = model = resolve_model(model)
        self.model = load_model(AutoModel, model, device, dtype)
        tubelet = getattr(self.model.config, "tubelet_size", 1)
        if window % tubelet:
            raise ValueError(
                f"window={window} must be a multiple of {tubelet}, the frames of this model's tubelets (--window)."
            )
        self.processor: InternVideoVideoProcessor = load_pretrained(AutoVideoProcessor, model)
        if len(self.processor.branches) > 1:
            raise ValueError(
                f"{model} is a fused model: its encoders take different frames of a window. Extract the features of "
                "one encoder alone."
            )
        self._check_memory(window, stride, max_memory)
        self.settings = Settings(revision(model, self.model), window, stride, cast_of(self.model))

    def rows(self, reader: VideoReader, first_row: int = 0) -> Iterator[torch.Tensor]:
        """Yield the features of a video from row `first_row` on, `(rows, dim)` float32 on the CPU, in batches.

        Every frame is decoded and resized once, although several windows contain it.
        """
        window, stride = self.settings.window, self.settings.stride
        last_start = max(reader.num_frames - window, 0) // stride * stride
        start = begin = end = first_row * stride  # of the next window; of the processed frames
        frames: list[torch.Tensor] = []
        for block in _blocks(reader, start):
            frames.append(self._process(block))
            end += len(block)
            if end == reader.num_frames < window:
                frames.append(frames[-1][-1:].expand(window - end, -1, -1, -1))
                end = window
            is_last = end >= reader.num_frames
            while start <= last_start and start + window <= end:
                starts = range(start, min(end - window, last_start) + 1, stride)[: self.batch_size]
                if len(starts) < self.batch_size and not is_last:
                    break
                held = torch.cat(frames)
                yield self._embed(torch.stack([held[s - begin : s - begin + window] for s in starts]))
                start = starts[-1] + stride
                spent = min(start, end) - begin
                frames, begin = [held[spent:]], begin + spent

    def num_rows(self, reader: VideoReader) -> int:
        """Return the number of windows of a video."""
        return max(reader.num_frames - self.settings.window, 0) // self.settings.stride + 1

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
        options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
        pixels: torch.Tensor = self.processor(block, **options)["pixel_values_videos"][0]
        return pixels

    @torch.no_grad()
    def _embed(self, clips: torch.Tensor) -> torch.Tensor:
        return video_features(self.model, clips).cpu()


def _blocks(reader: VideoReader, start: int) -> Iterator[np.ndarray]:
    """Yield the frames from `start` on, as many together as `BLOCK` and `BLOCK_BYTES` allow."""
    held: list[np.ndarray] = []
    for frame in reader.blocks(1, start):
        held.append(frame)
        if len(held) == BLOCK or len(held) * frame.nbytes >= BLOCK_BYTES:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def extract_to_file(
    extractor: FeatureExtractor,
    video: str | Path,
    path: Path,
    as_npy: bool = False,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
    *,
    overwrite: bool = False,
) -> bool:
    """Write a video's features to `path` (.safetensors, tensor `features`) and a description to `path` with .json.

    Parts beside `path` keep the rows so far, so that the same call continues after an interruption. Files are written
    atomically.

    Args:
        extractor: model, window and stride.
        video: a file, a folder of frames or an address.
        path: the file to write.
        as_npy: also write the features to `path` with .npy.
        on_rows: progress callback `(rows done, all rows)`.
        overwrite: replace features of another video, or of other settings; they stay until the new ones are ready.

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
        for file in (path, path.with_suffix(".json"), path.with_suffix(".npy")):
            remove_leftovers_of(file)
        source = _Source.of(str(video))
        if is_new := not _is_done(extractor, source, path, overwrite):
            _extract(extractor, source, path, as_npy, on_rows)
        elif as_npy and not path.with_suffix(".npy").exists():
            _save_npy(path, load_file(path)["features"])
        for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*.parts"):  # of any settings: `path` exists
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

    def has_content(self, known: dict[str, Any], written: float) -> bool:
        """Return whether the video has the content that a description names.

        Args:
            known: the description.
            written: when it was written, in seconds.
        """
        content = known.get("content")
        if self.size < 0 or "mtime" in known:
            same = self.size >= 0 and (known.get("size"), known.get("mtime")) == (self.size, self.mtime)
            return same or content == self.content()
        # Version 0.1 hashed the ends of a file. Of a change between them only its time tells.
        is_whole = self.size <= 2 * ENDS
        return content == _content_of_ends(self.video) and (is_whole or self.mtime < written * 1e9)


def _is_done(extractor: FeatureExtractor, source: _Source, path: Path, overwrite: bool) -> bool:
    """Return whether a file holds the features of a video by these settings; refuse others unless `overwrite`."""
    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        return False
    known = json.loads(sidecar.read_text(encoding="utf-8"))
    problem = ""
    if not source.has_content(known, sidecar.stat().st_mtime):
        problem = f"another video, {known.get('video')}"
    elif changes := changed_settings(*_comparable(known, extractor)):
        problem = f"other settings ({changes})"
    if problem and not overwrite:
        raise FileExistsError(
            f"{path} holds features of {problem}. Replace it by --overwrite (overwrite=True), or name "
            "another folder by --out."
        )
    return not problem


def _comparable(known: dict[str, Any], extractor: FeatureExtractor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a file's description and of an extractor, in words of their user."""
    now = asdict(extractor.settings)
    before = {name: known.get(name) for name in now}
    for settings, model in ((before, known.get("model")), (now, extractor.name)):
        settings["dtype"] = settings["dtype"] or "auto"
        settings["model"] = f"{model} ({settings.pop('revision')})"
    if known.get("revision") == extractor.settings.revision:  # in whatever folder the model is
        before["model"] = now["model"]
    return before, now


def _extract(
    extractor: FeatureExtractor, source: _Source, path: Path, as_npy: bool, on_rows: Callable[[int, int], None]
) -> None:
    settings = {**extractor.settings.facts(), "content": source.content()}
    parts = path.parent / f".{path.name}.{json_sha256(settings)[:12]}.parts"
    with VideoReader(source.video, backend="pyav") as reader:
        journal, total = Journal(parts), extractor.num_rows(reader)
        done = len(journal)
        on_rows(done, total)
        for rows in extractor.rows(reader, done) if done < total else ():
            if len(journal) == done:
                # The parts, and the file that they become; once more with .npy.
                check_output(path, MIN_ROOM + (2 + as_npy) * total * rows[0].nbytes)
            journal.append({"features": rows})
            on_rows(len(journal), total)
        journal.write()
        spans = _time_spans(extractor.settings, total, reader)
        facts = {"video": source.video, "fps": reader.fps, "num_frames": reader.num_frames, "rows": total}
    features = journal.tensors()["features"]
    for old in (path, path.with_suffix(".npy")):  # the description must not stand beside features of other settings
        old.unlink(missing_ok=True)
    if as_npy:
        _save_npy(path, features)
    stamped = {"size": source.size, "mtime": source.mtime}
    text = json.dumps({"model": extractor.name, **settings, **stamped, **facts, "seconds": spans}, indent=1)
    atomic_write_text(path.with_suffix(".json"), text)
    atomic_write(path, lambda file: save_file({"features": features}, file))


def _content_of_ends(video: str) -> str:
    """Return the content key of version 0.1: from a file's size, beginning and end, or a folder's files."""
    path = Path(video)
    if path.is_dir():
        digest = json_sha256(sorted((entry.name, entry.stat().st_size) for entry in path.iterdir()))
    else:
        digest = ends_sha256(path, ENDS)
    return f"sha256:{digest[:16]}"


def _save_npy(path: Path, features: torch.Tensor) -> None:
    atomic_write(path.with_suffix(".npy"), lambda file: np.save(file, features.numpy()))


def _time_spans(settings: Settings, rows: int, reader: VideoReader) -> list[list[float]] | None:
    """Return begin and end of each row's window in seconds, or None if the video has no times and no frame rate."""
    times = reader.timeline
    if times is None:
        return None
    starts = np.arange(rows) * settings.stride
    ends = np.minimum(starts + settings.window, reader.num_frames)
    spans: list[list[float]] = np.stack([times[starts], times[ends]], axis=1).round(4).tolist()
    return spans
