"""From a raw untrimmed video to the features that a head was trained on, and their times."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.model_names import cache_folder, resolve_model
from internvideo_hf.data.features import (
    FeatureGrid,
    FeatureSettings,
    feature_rule,
    read_features,
    resize_rows,
    settings_of,
)
from internvideo_hf.inference.encoders import WindowError
from internvideo_hf.inference.features import (
    FeatureExtractor,
    extract_to_file,
    is_of_video,
    load_features,
    read_description,
    row_times,
)
from internvideo_hf.utils.fingerprints import json_sha256, text_sha256
from internvideo_hf.utils.settings import changed_settings
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.members import split_member
from internvideo_hf.video.sources import is_url


@dataclass(frozen=True)
class VideoFeatures:
    """The features of one video in time.

    Args:
        rows: `(length, channels)` float32; NaN where the video is damaged.
        grid: of the rows.
        duration: of the video in seconds; None if unknown.
        seconds: begin and end of each row's window; None if unknown.
    """

    rows: torch.Tensor
    grid: FeatureGrid
    duration: float | None = None
    seconds: Sequence[Sequence[float]] | None = None

    def in_seconds(self, segments: torch.Tensor) -> torch.Tensor:
        """Return segments `(n, 2)` of the grid in seconds; where frames vary in length, by the times of the rows."""
        found = self.grid.to_seconds(segments, self.duration)
        if (middles := self._middles()) is None:
            return found
        nominal, true = middles
        shift = torch.from_numpy(np.interp(found.numpy(), nominal, true - nominal))
        return (found + shift).clamp(min=0, max=self.duration)

    def on_grid(self, seconds: torch.Tensor) -> torch.Tensor:
        """Return segments `(n, 2)` in seconds in steps of the grid; the inverse of `in_seconds`."""
        if (middles := self._middles()) is not None:
            nominal, true = middles
            seconds = seconds + torch.from_numpy(np.interp(seconds.numpy(), true, nominal - true)).float()
        return self.grid.from_seconds(seconds)

    def _middles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the times of the rows by the grid and by their windows; None where they are the same."""
        if self.seconds is None or len(self.seconds) != len(self.rows):
            return None
        nominal = self.grid.to_seconds(torch.arange(len(self.rows))[:, None].double(), None)[:, 0].numpy()
        true = np.asarray(self.seconds).mean(axis=1)
        return None if np.abs(nominal - true).max() < 1e-3 else (nominal, true)


def extractor_for(
    config: PreTrainedConfig, encoder: str | Path | None, head: str = "the model", **options: Any
) -> FeatureExtractor:
    """Return what makes the features that a head was trained on.

    Args:
        config: of the head; its `features` names encoder and windows.
        encoder: folder or Hub name of the encoder; the one that the head names if None.
        head: name of the head in messages.
        options: of `FeatureExtractor`, such as `device` and `batch_size`.

    Raises:
        ValueError: if the head does not say enough, or the encoder makes other features.
    """
    rule = feature_rule(getattr(config, "features", None))
    if not rule.get("window") or not rule.get("stride"):
        raise ValueError(
            f"{head} does not say which windows of a video its features came from. Set `features` in its config.json, "
            "by `internvideo convert --config` where it is converted; or give a `FeatureExtractor` (Python), or "
            "features with their stride and frames a second (--features, --stride, --fps)."
        )
    name = encoder or encoder_of(config)
    if name is None:
        raise ValueError(f"{head} does not name the encoder of its features. Give it (feature_extractor, --encoder).")
    if encoder is None:
        try:
            resolve_model(name)
        except ValueError as error:
            message = f"The encoder of {head} was {name}, which is not there. Say where it is now"
            raise ValueError(f"{message} (feature_extractor, --encoder).") from error
    how: Any = {"fps": rule.get("fps"), "layer": rule.get("layer"), "pooling": rule.get("pooling") or "auto"}
    window, stride = rule["window"], rule["stride"]
    if window != int(window) or stride != int(stride):
        raise ValueError(
            f"{head} was trained on windows of {window:g} frames, {stride:g} apart, and windows have whole frames. "
            "Give features with their stride and frames a second (--features, --stride, --fps)."
        )
    try:
        extractor = FeatureExtractor(name, int(window), int(stride), **how, **options)
    except WindowError as error:
        cause = str(error).replace(" (--window)", "").rstrip(".")
        raise ValueError(
            f"{head} was trained on windows of {window:g} frames, which {name} cannot take: {cause}. Give the encoder "
            "that it was trained with (feature_extractor, --encoder), or features with their stride and frames a "
            "second (--features, --stride, --fps)."
        ) from error
    check_extractor(config, extractor, head)
    return extractor


def encoder_of(config: PreTrainedConfig) -> str | Path | None:
    """Return the name of the encoder that a head was trained with; None where it does not say.

    Args:
        config: of the head.
    """
    return _beside(config, feature_rule(getattr(config, "features", None)).get("encoder"))


def channels_of(config: PreTrainedConfig) -> int:
    """Return the channels of the features of videos that a head takes.

    Args:
        config: of the head.
    """
    return int(getattr(config, "feature_size", None) or config.video_size)


def check_extractor(config: PreTrainedConfig, extractor: FeatureExtractor, head: str = "the model") -> None:
    """Refuse an encoder that is not the one of a head's training; its windows may be others.

    Args:
        config: of the head.
        extractor: what makes features.
        head: name of the head in messages.

    Raises:
        ValueError: if it makes other features.
    """
    rule = feature_rule(getattr(config, "features", None))
    made, revision, name = extractor.settings.revision, rule.get("revision"), extractor.name
    if revision is not None and made != revision:
        raise ValueError(
            f"{head} was trained on features of {rule.get('encoder')} ({revision}), and {name} ({made}) makes others. "
            "Give that encoder (feature_extractor, --encoder), or features with their stride and frames a second "
            "(--features, --stride, --fps)."
        )
    if extractor.row_shape != (channels_of(config),):
        found = "x".join(map(str, extractor.row_shape))
        raise ValueError(
            f"{head} takes features of {channels_of(config)} channels, {name} gives {found}. Give the encoder that it "
            "was trained with (feature_extractor, --encoder)."
        )


def _beside(config: PreTrainedConfig, name: str | None) -> str | None:
    """Return the folder in a head's own that is named so, as end-to-end training writes it; or else the name."""
    if not name or name != Path(name).name:
        return name
    folder = Path(config._name_or_path) / name
    return str(folder) if config._name_or_path and (folder / "config.json").is_file() else name


def extract_features(
    extractor: FeatureExtractor,
    video: Any,
    fixed_length: int | None = None,
    path: Path | None = None,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
    window_rows: float | None = None,
) -> VideoFeatures:
    """Extract the features of a video; windows with a damaged frame give NaN.

    Args:
        extractor: encoder and windows.
        video: an open reader, or of every kind that `VideoReader` takes; with `path` a file, a folder of frames or an
            address.
        fixed_length: rows to resize the features to; None keeps their number. See `resizing_of`.
        path: a file to keep them in (.safetensors), from which the same call goes on after an interruption.
        on_rows: progress callback `(rows done, all rows)`.
        window_rows: with `fixed_length`, rows that a window is taken to cover; as many as a window's frames if None.

    Raises:
        VideoDecodeError: if the video cannot be read, is shorter than a window, or has no times.
    """
    settings = extractor.settings
    if path is None:
        with nullcontext(video) if isinstance(video, VideoReader) else VideoReader(video) as reader:
            total, rows = extractor.num_rows(reader), []
            for batch in extractor.rows(reader, gaps=True):
                rows.append(batch)
                on_rows(sum(map(len, rows)), total)
            facts, name, found = row_times(settings, total, reader), reader.name, torch.cat(rows)
    else:
        extract_to_file(extractor, video, path, on_rows=on_rows, overwrite=True, gaps=True)
        name, (found, facts) = str(video), load_features(path)
    if facts["num_frames"] < settings.window:
        raise VideoDecodeError(
            name,
            f"it has {facts['num_frames']} frames, fewer than the {settings.window} of one window",
            "Give a longer video, or a head on features of shorter windows.",
        )
    if facts["fps"] is None:
        raise VideoDecodeError(name, "its frames have no times", "Give a video file, or its frames a second.")
    duration = facts["duration"] or facts["num_frames"] / facts["fps"]
    if fixed_length is not None:
        spread = FeatureSettings(None, window_rows or settings.window, facts["fps"], fixed_length)
        return _resized(name, found, duration, spread)
    grid = FeatureGrid(settings.stride, settings.window, facts["fps"])
    return VideoFeatures(some_known(name, found), grid, duration, facts["seconds"])


def resizing_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the options of `extract_features` for a head whose features all have the same length; else none.

    Args:
        config: of the head.
    """
    rule = feature_rule(getattr(config, "features", None))
    return {name: rule[name] for name in ("fixed_length", "window_rows") if rule.get("fixed_length") is not None}


def features_file(extractor: FeatureExtractor, video: str, *, keep: bool) -> Path:
    """Return where the features of a video are kept, by the settings that they are made with.

    Args:
        extractor: encoder and windows.
        video: path or address.
        keep: beside the video, or the file that it lies in, or in the current folder for an address; in the cache of
            models otherwise.
    """
    settings = json_sha256(extractor.settings.facts())[:8]
    if not keep:
        source = video if is_url(video) else str(Path(video).absolute())
        return cache_folder() / "localize" / f"{text_sha256(source)[:24]}.{settings}.safetensors"
    if (member := split_member(video)) is not None:
        video = ".".join([member[0], *member[1].split("/")])
    place = Path(Path(urlsplit(video).path).name or "video") if is_url(video) else Path(video)
    return place.with_name(f"{place.name}.{settings}.safetensors")


def some_known(name: str, rows: torch.Tensor) -> torch.Tensor:
    """Return features, of which at least one row must be known.

    Args:
        name: of the video, in the message.
        rows: `(length, channels)`, NaN for damaged windows.

    Raises:
        VideoDecodeError: if every window is damaged.
    """
    if rows.isnan().any(dim=1).all():
        raise VideoDecodeError(name, "every window has a damaged frame", "Get the file again.")
    return rows


def _resized(name: str, rows: torch.Tensor, duration: float, settings: FeatureSettings) -> VideoFeatures:
    """Return features that are resized to a fixed length, spread over the duration of their video."""
    assert settings.fixed_length is not None
    rows = resize_rows(filled(some_known(name, rows)), settings.fixed_length)
    return VideoFeatures(rows, settings.grid(settings.fixed_length, None, duration), duration)


def filled(rows: torch.Tensor) -> torch.Tensor:
    """Return features with those of damaged windows interpolated from their neighbors.

    Args:
        rows: `(length, channels)`, NaN for damaged windows, not for all.
    """
    known = ~rows.isnan().any(dim=1).numpy()
    if known.all():
        return rows
    places = np.arange(len(rows))
    columns = [np.interp(places, places[known], column) for column in rows[torch.from_numpy(known)].T.numpy()]
    return torch.from_numpy(np.stack(columns, axis=1)).float()


_OPTIONAL = ("fps", "layer", "pooling")
_RULE = ("revision", "window", "stride", *_OPTIONAL)


def read_given(
    path: Path,
    config: PreTrainedConfig,
    video: str,
    *,
    stride: float | None = None,
    fps: float | None = None,
    window: float | None = None,
) -> VideoFeatures:
    """Read features that a user names.

    Args:
        path: see `read_features`; of `internvideo extract` with their description beside them.
        config: of the head.
        video: whose they are.
        stride: frames from one row to the next; None as described.
        fps: frames a second in which `stride` counts; None as described.
        window: frames of a row's window; None as described, or as in the head's training.

    Raises:
        ValueError: if nothing says how they lie in time, or, unless `stride` and `fps` are given, if they are others
            than those of the head's training, or of another video.
        ManifestError: if the file cannot be read.
        VideoDecodeError: if the video cannot be read, whose duration counts.
    """
    rule = feature_rule(getattr(config, "features", None))
    facts = read_description(path) or {}
    rows = read_features(path, gaps=bool(facts))
    if rows.shape[1:] != (channels_of(config),):
        raise ValueError(
            f"The head takes features of {channels_of(config)} channels, {path} gives {rows.shape[1]}. Extract them "
            "with the encoder that the head was trained with, or name it (--encoder) in place of --features."
        )
    given, fixed_length = stride is not None and fps is not None, rule.get("fixed_length")
    if not given and not facts and fixed_length is None:
        raise ValueError(f"{path} has no description beside it: give its stride in frames, and fps (--stride, --fps).")
    if facts and not given:
        _check_described(path, facts, rule, video)
    with VideoReader(video) as reader:
        duration = reader.duration
    if fixed_length is not None:
        if not (duration := duration or facts.get("duration")):
            raise VideoDecodeError(video, "its frames have no times", "Give a video file.")
        return _resized(str(path), rows, duration, settings_of(rule))
    stride, fps = stride or facts["stride"], fps or facts["fps"]
    window = window or facts.get("window") or rule.get("window") or stride
    assert stride is not None and fps is not None and window is not None
    return VideoFeatures(rows, FeatureGrid(stride, window, fps), duration, None if given else facts["seconds"])


def _check_described(path: Path, facts: Mapping[str, Any], rule: Mapping[str, Any], video: str) -> None:
    """Refuse features of other windows than those of a head's training, or of another video."""
    now = {name: facts.get(name) for name in _RULE} | {"fps": facts.get("sampled_fps")}
    # Of a head that does not name its windows or its encoder, nothing is known.
    before = {name: rule.get(name, None if name in _OPTIONAL and rule.get("stride") else now[name]) for name in _RULE}
    advice = "If they shall do, give their stride and fps too (--stride, --fps)."
    if changes := changed_settings(before, now):
        raise ValueError(f"{path} holds other features than those of the head's training ({changes}). {advice}")
    if not is_of_video(path, video):
        raise ValueError(f"{path} holds features of another video, {facts.get('video')}, not of {video}. {advice}")
