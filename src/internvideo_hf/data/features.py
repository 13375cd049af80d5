"""Files of features of untrimmed videos, and how their rows lie in time.

Two units of time: seconds, and steps of the feature grid. Row 0 of a video's features stands for the frames around
`num_frames / 2`, so that a segment that begins with the video begins a little below 0 on the grid.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.data.records import ManifestError
from internvideo_hf.utils.names import reason_of

NAMES = ("features", "feats")  # of the tensor in a file that holds several


@dataclass(frozen=True)
class FeatureGrid:
    """The times of a video's rows of features.

    Args:
        stride: frames from one row to the next, above 0.
        num_frames: frames of a row's window.
        fps: frames a second, above 0.
    """

    stride: float
    num_frames: float
    fps: float

    def from_seconds(self, segments: torch.Tensor) -> torch.Tensor:
        """Return segments `(n, 2)` in steps of the grid, float32; the first may be a little below 0."""
        return (segments * self.fps - 0.5 * self.num_frames) / self.stride

    def to_seconds(self, segments: torch.Tensor, duration: float | None = None) -> torch.Tensor:
        """Return segments `(n, 2)` in seconds.

        Args:
            segments: in steps of the grid.
            duration: of the video in seconds, at which segments end; None if unknown.
        """
        return ((segments * self.stride + 0.5 * self.num_frames) / self.fps).clamp(min=0, max=duration)


@dataclass(frozen=True)
class FeatureSettings:
    """How the features of a data set lie in time.

    Args:
        stride: frames from one row to the next; None where every video has the same number of rows, spread over its
            duration.
        num_frames: frames of a row's window; where `stride` is None, rows that a window covers.
        fps: frames a second of all videos; None for those of the annotations.
        fixed_length: rows to which features are resized where `stride` is None; None keeps their number.
        prefix: of the names of the files, before the id of the video; "v_" for ActivityNet.
    """

    stride: float | None
    num_frames: float = 16
    fps: float | None = None
    fixed_length: int | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        for name in ("stride", "fps", "fixed_length"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}, expected a number above 0 or None.")
        if self.stride is not None and self.fixed_length is not None:
            raise ValueError(
                f"fixed_length={self.fixed_length} and stride={self.stride} exclude each other: features of a fixed "
                "length have the stride that their video's duration gives. Leave out one of them."
            )

    def grid(self, length: int, fps: float | None, duration: float | None) -> FeatureGrid:
        """Return the grid of a video.

        Args:
            length: rows of its features.
            fps: frames a second of the video, if known.
            duration: of the video in seconds, if known.

        Raises:
            ValueError: if a number that the settings need is unknown.
        """
        fps = self.fps or fps or (1.0 if self.stride is None else None)  # without a stride, it cancels itself out
        if fps is None:
            raise ValueError("neither the annotations nor the settings give its frames a second; set fps")
        if self.stride is not None:
            return FeatureGrid(self.stride, self.num_frames, fps)
        if duration is None:
            raise ValueError("the annotations give no duration, over which its features are spread")
        stride = duration * fps / length
        return FeatureGrid(stride, stride * self.num_frames, fps)


def feature_rule(features: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a head says of its features; of heads before there was `window_rows`, too.

    Args:
        features: `config.features` of the head.
    """
    rule = dict(features or {})
    if rule.get("fixed_length") is not None and "window_rows" not in rule:
        rule = {name: value for name, value in rule.items() if name not in ("window", "stride")} | {
            "window_rows": rule.get("window")
        }
    return rule


def settings_of(rule: Mapping[str, Any]) -> FeatureSettings:
    """Return how the features of a head lie in time.

    Args:
        rule: see `feature_rule`.
    """
    if rule.get("fixed_length") is not None:
        return FeatureSettings(None, rule.get("window_rows") or 16, rule.get("fps"), rule["fixed_length"])
    return FeatureSettings(rule["stride"], rule["window"], rule.get("fps"))


def resize_rows(features: torch.Tensor, length: int) -> torch.Tensor:
    """Interpolate features `(rows, channels)` linearly to another number of rows."""
    if len(features) == length:
        return features
    return interpolate(features.T[None], size=length, mode="linear", align_corners=False)[0].T.contiguous()


def read_features(path: str | Path, *, gaps: bool = False) -> torch.Tensor:
    """Read the features of a video.

    Args:
        path: `.npy`, `.npz`, `.safetensors`, or `.pt` or `.pth` by torch, with one tensor, or one named "features" or
            "feats"; or `.csv` with a row of numbers for each row of features, as ActivityNet's are, below a line of
            names or not.
        gaps: accept rows of NaN, which stand for windows with a damaged frame.

    Returns:
        `(length, channels)`, float32.

    Raises:
        ManifestError: if the file cannot be read safely, or does not hold such features.
    """
    path = Path(path)
    try:
        content = _READERS[path.suffix.lower()](path)
    except KeyError:
        if path.suffix.lower() in _PICKLES:
            raise ManifestError(str(path), None, "it is a pickle, which may run any code", _CONVERT_PICKLE) from None
        cause = f"its name ends in {path.suffix!r}"
        raise ManifestError(str(path), None, cause, f"Expected one of {', '.join(_READERS)}.") from None
    except Exception as error:  # damaged files raise all kinds
        advice = "Extract the features again; objects other than arrays are not read."
        raise ManifestError(str(path), None, f"it cannot be read ({reason_of(error)})", advice) from error
    if isinstance(content, Mapping):
        found = [content[name] for name in NAMES if name in content] or list(content.values())
        if len(found) != 1:
            cause = f"it holds {', '.join(map(str, content)) or 'nothing'}"
            raise ManifestError(str(path), None, cause, f"Expected one array, or one named {NAMES[0]!r}.")
        content = found[0]
    try:
        features = torch.as_tensor(content).float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ManifestError(str(path), None, "it holds no numbers", "Expected an array of features.") from error
    if features.ndim != 2 or not features.numel():
        cause = f"its features have the shape {tuple(features.shape)}"
        raise ManifestError(str(path), None, cause, "Expected (length, channels).")
    known = features[~features.isnan().all(dim=1)] if gaps else features
    if not known.isfinite().all():
        raise ManifestError(str(path), None, "its features are not all finite", "Extract them again.")
    return features


class FeatureFolder:
    """The files of features below a folder, by the id of their video.

    Args:
        folder: of files that `read_features` reads, at any depth.
        prefix: of their names, before the id.
        beside: folders of other features of the same rows, whose channels come behind, in this order.

    Raises:
        ManifestError: if a folder holds no features.
    """

    def __init__(self, folder: str | Path, prefix: str = "", beside: Sequence[str | Path] = ()):
        self.folder, self.prefix = Path(folder), prefix
        self.beside = [FeatureFolder(other, prefix) for other in beside]
        if not self._files:
            named = f" whose names begin with {prefix!r}" if prefix else ""
            cause = f"it holds no features ({', '.join(_READERS)}){named}"
            raise ManifestError(str(folder), None, cause, "Check the folder and the prefix.")

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in sorted(self.folder.rglob(f"{self.prefix}*")):
            if path.suffix.lower() in _READERS and not path.name.startswith("."):
                name = path.stem.removeprefix(self.prefix)
                # `internvideo extract` keeps the name of the video's file.
                found.setdefault(Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name, path)
        return found

    def __contains__(self, video: object) -> bool:
        return video in self._files and all(video in other for other in self.beside)

    def only(self, video: str) -> "FeatureFolder":
        """Return the folder as if it held the features of one video alone, which is quickly sent to a worker."""
        found = copy(self)
        vars(found).update(_files={video: self._files[video]}, beside=[other.only(video) for other in self.beside])
        return found

    def path_of(self, video: str) -> Path:
        """Return the file of a video's features; of several kinds that of the first."""
        return self._files[video]

    def read(self, video: str) -> torch.Tensor:
        """Return the features of a video, `(length, channels)` float32; see `read_features`.

        Args:
            video: its id.

        Raises:
            ManifestError: if a file cannot be read, or several kinds of features have different rows.
        """
        features = read_features(self._files[video])
        parts = [features, *(other.read(video) for other in self.beside)]
        for part, other in zip(parts[1:], self.beside, strict=True):
            if len(part) != len(features):
                cause = f"it has {len(part)} rows, and {self._files[video]} {len(features)}"
                raise ManifestError(str(other.path_of(video)), None, cause, "Extract both with the same windows.")
        return torch.cat(parts, dim=1)


_PICKLES = (".pkl", ".pickle")
_CONVERT_PICKLE = (
    "If you trust where it is from, convert it where nothing can be lost (a container without network): "
    "numpy.save(NAME.npy, numpy.asarray(pickle.load(open(NAME.pkl, 'rb'))))."
)


def _read_csv(path: Path) -> NDArray[np.float32]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row]
    try:
        [float(cell) for cell in rows[0]]
    except ValueError:
        rows = rows[1:]  # names of the columns
    return np.array([[float(cell) for cell in row] for row in rows], dtype=np.float32)


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _read_npz,
    ".safetensors": load_file,
    ".csv": _read_csv,
    ".pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
    ".pth": lambda path: torch.load(path, map_location="cpu", weights_only=True),
}
