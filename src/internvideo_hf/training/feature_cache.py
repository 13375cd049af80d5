"""A cache on disk for the outputs of a frozen backbone: later epochs neither run it nor decode videos."""

import errno
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors.processes import start_workers
from internvideo_hf.data.samples import PIXELS, Row, Sample
from internvideo_hf.utils.files import atomic_write, remove_leftovers
from internvideo_hf.utils.fingerprints import json_sha256, tensors_sha256


@runtime_checkable
class FrozenBackbone(Protocol):
    """A model without a head whose frozen part can be run by itself.

    Attributes:
        frozen_argument: argument of `forward` that takes the outputs of the frozen part.
        encoders_frozen: whether training leaves `frozen_state` unchanged.
    """

    frozen_argument: str
    training: bool

    @property
    def encoders_frozen(self) -> bool: ...

    @property
    def device(self) -> torch.device: ...

    def frozen_state(self) -> dict[str, torch.Tensor]:
        """Return the weights of the frozen part."""

    def frozen_facts(self) -> list[Any]:
        """Return what else decides the outputs, as JSON."""

    def frozen_forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the frozen part on a batch; `name.0`, `name.1`, ... are the tensors of a list."""

    def train(self, mode: bool = True) -> Any:
        """Switch to training or evaluation."""


class FeatureCache(Dataset[Sample]):
    """Samples of a list of videos with the outputs of a frozen backbone instead of pixels.

    `fill` computes missing outputs and is resumable. The path of a file depends on the video, the settings and the
    seed of its clip, and the frozen weights, so no stale file is read; videos at URLs are assumed not to change.

    Args:
        dataset: the clips.
        model: its frozen part, on the device to compute on.
        folder: directory of the caches; each combination of weights and settings has its own below it. Two
            encoders of size B take 25 MB a clip in float32.
        views: number of different clips of a video, one an epoch; then they repeat.
        autocast_dtype: type of mixed precision, as in training; None for no mixed precision.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        model: FrozenBackbone,
        folder: Path,
        views: int = 1,
        autocast_dtype: torch.dtype | None = None,
    ):
        self.dataset = dataset
        self.model = model
        self.argument = model.frozen_argument
        self.views = views
        self.autocast_dtype = autocast_dtype
        weights = f"sha256:{tensors_sha256(model.frozen_state())}"
        key = json_sha256([weights, model.frozen_facts(), str(autocast_dtype), _as_json(dataset.settings)])
        self.folder = Path(folder) / key[:32]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the model, which workers do not need."""
        return {**self.__dict__, "model": None}

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Select the clips of an epoch; after `views` epochs they repeat.

        Args:
            epoch: counted from 0.
        """
        self.dataset.set_epoch(epoch % self.views)

    def path(self, index: int) -> Path:
        """Return the file of a row's clip in this epoch.

        Args:
            index: of the row.
        """
        name = json_sha256([_identity(self.dataset.rows[index])[:32], self.dataset.seed_of(index)])
        return self.folder / name[:2] / f"{name}.safetensors"

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of a row, with the outputs of the backbone.

        Raises:
            FileNotFoundError: if `fill` was not called, or its file was deleted.
        """
        path = self.path(index)
        if not path.is_file():
            sample = self.dataset[index]
            if "failure" in sample:  # an unreadable video has no file
                return sample
            raise FileNotFoundError(f"{path} is missing. Run the same command again to compute it.")
        row, outputs = self.dataset.rows[index], _nested(load_file(path))
        sample = {self.argument: outputs, "seed": self.dataset.seed_of(index), "video": str(row["video"])}
        return sample | ({} if row.get("label") is None else {"labels": torch.tensor(row["label"])})

    def fill(
        self,
        views: int,
        batch_size: int = 8,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        quiet: bool = False,
    ) -> int:
        """Compute the missing files.

        Args:
            views: clips of each video, at most the cache's `views`.
            batch_size: clips of a forward pass.
            workers: processes that decode.
            rank: number of this process; each computes a part.
            world_size: number of processes.
            quiet: show no progress bar.

        Returns:
            The number of computed clips.

        Raises:
            OSError: if there is too little disk space; finished files stay.
            VideoDecodeError, TooManyFailuresError: see `VideoDataset`.
        """
        was_training, done = self.model.training, 0
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            remove_leftovers(folder)
        self.model.train(False)
        for view in range(views):
            self.set_epoch(view)
            missing = [index for index in range(rank, len(self), world_size) if not self.path(index).is_file()]
            loader = DataLoader(
                Subset(self.dataset, missing), batch_size=batch_size, num_workers=workers, collate_fn=list
            )
            batches = start_workers(loader)
            with tqdm(total=len(missing), desc=f"Caching clip {view + 1} of {views}", disable=quiet) as bar:
                for first, samples in zip(range(0, len(missing), batch_size), batches, strict=True):
                    indices = missing[first : first + len(samples)]
                    self._write(indices, samples, left=(views - view) * len(missing) - first)
                    done += len(samples)
                    bar.update(len(samples))
        self.set_epoch(0)
        self.model.train(was_training)
        return done

    @torch.no_grad()
    def _write(self, indices: list[int], samples: list[Sample], left: int) -> None:
        read = [(index, sample) for index, sample in zip(indices, samples, strict=True) if "failure" not in sample]
        if not read:
            return
        batch = VideoCollator(targets=())([sample for _, sample in read])
        pixels = {name: batch[name].to(self.model.device) for name in batch if name.endswith(PIXELS)}
        dtype = self.autocast_dtype
        with nullcontext() if dtype is None else torch.autocast(self.model.device.type, dtype):
            outputs = self.model.frozen_forward(**pixels)
        for place, (index, _) in enumerate(read):
            tensors = {name: tensor[place].cpu().contiguous() for name, tensor in outputs.items()}
            path = self.path(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            if place == 0:
                self._check_room(left * sum(tensor.nbytes for tensor in tensors.values()))
            atomic_write(path, partial(save_file, tensors))

    def _check_room(self, needed: int) -> None:
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise OSError(
                errno.ENOSPC,
                f"{self.folder} has {free / 1e9:,.1f} GB free, the missing files need {needed / 1e9:,.1f} GB. Free "
                "space, set data.trunk_cache.folder to another disk, or set data.trunk_cache=null",
            )


def _identity(row: Row) -> list[Any]:
    """Return what identifies a row's clip: video, start, end, and sizes and times of its files."""
    path = Path(row["video"])
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return [str(row["video"]), row.get("start"), row.get("end"), states]


def _nested(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return tensors by name, `name.0`, `name.1`, ... as the list `name`."""
    lists: dict[str, dict[int, torch.Tensor]] = {}
    nested: dict[str, Any] = {}
    for name, tensor in tensors.items():
        stem, _, number = name.rpartition(".")
        if number.isdigit():
            lists.setdefault(stem, {})[int(number)] = tensor
        else:
            nested[name] = tensor
    return nested | {stem: [entries[number] for number in sorted(entries)] for stem, entries in lists.items()}


def _as_json(settings: Any) -> Any:
    """Return settings of samples as JSON; processors as their saved configuration."""
    if hasattr(settings, "to_dict"):
        return settings.to_dict()
    if is_dataclass(settings):
        return {name: _as_json(getattr(settings, name)) for name in (entry.name for entry in fields(settings))}
    if isinstance(settings, dict):
        return {name: _as_json(value) for name, value in settings.items()}
    return settings
