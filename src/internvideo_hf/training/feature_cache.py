"""A cache on disk for the outputs of a frozen backbone: later epochs neither run it nor decode videos."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from tqdm import tqdm

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Refusal
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.failures import FailureTable, lost_among_others
from internvideo_hf.data.samples import Row, Sample
from internvideo_hf.inference.rows import read_arrays
from internvideo_hf.training.cache_filling import (
    STAGE,
    Batch,
    Clip,
    Filling,
    FrozenBackbone,
    Shard,
    cut,
    fill_batches,
    fill_shard,
    fingerprint_of,
    read_clip,
    video_of,
)
from internvideo_hf.utils.files import remove_leftovers
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.video.errors import VideoDecodeError

FAILURES = "failures.jsonl"
"""Name of the table of failures in the folder of the caches."""


class FeatureCache(Dataset[Sample]):
    """Samples of a list of videos with the outputs of a frozen backbone instead of pixels.

    `fill` and `fill_on_engine` compute missing outputs and are resumable. The path of a file depends on the video, the
    settings and the seed of its clip, and the frozen weights, so no stale file is read; videos at URLs are assumed not
    to change.

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
        self.fingerprint = fingerprint_of(model)
        key = json_sha256([self.fingerprint, model.frozen_facts(), str(autocast_dtype), _as_json(dataset.settings)])
        self.folder = Path(folder) / key[:32]
        self._held: dict[str, VideoDecodeError] = {}

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
            if error := self._held.get(str(self.dataset.rows[index]["video"])):
                return self.dataset.fail(index, error)
            sample = self.dataset[index]
            if "failure" in sample:  # an unreadable video has no file
                return sample
            raise FileNotFoundError(f"{path} is missing. Run the same command again to compute it.")
        row, outputs = self.dataset.rows[index], _nested(load_file(path))
        sample = {self.argument: outputs, "seed": self.dataset.seed_of(index), "video": str(row["video"])}
        return sample | ({} if row.get("label") is None else {"labels": torch.tensor(row["label"])})

    def hold_back(self, table: FailureTable) -> None:
        """Count videos that have killed or hung a decoder as unreadable, without another try.

        Args:
            table: as it is on the disk.
        """
        _, self._held = table.divide(self.videos())

    def videos(self) -> list[str]:
        """Return the path or address of each row's video."""
        rows: Any = self.dataset.rows
        return [str(row["video"]) for row in rows] if isinstance(rows, list) else list(map(str, rows["video"]))

    def fill(
        self,
        views: int,
        batch_size: int = 8,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        quiet: bool = False,
        *,
        table: FailureTable | None = None,
    ) -> int:
        """Compute the missing files by the model in this process.

        Args:
            views: clips of each video, at most the cache's `views`.
            batch_size: clips of a forward pass.
            workers: processes that decode, of which a video may kill any; 0 decodes in this process.
            rank: number of this process; each computes a part.
            world_size: number of processes.
            quiet: show no progress bar.
            table: gets the failures; what has killed or hung a decoder by its rows is not tried again.

        Returns:
            The number of computed clips.

        Raises:
            OSError: if there is too little disk space; finished files stay.
            VideoDecodeError, TooManyFailuresError: see `VideoDataset`.
        """
        was_training, done = self.model.training, 0
        table = FailureTable(None, STAGE) if table is None else table
        self.hold_back(table)
        self._remove_leftovers()
        self.model.train(False)
        pool = processes.Processes() if workers else None
        read: Callable[[Clip], Any] = partial(read_clip, settings=self.dataset.settings)
        if workers:
            read = partial(read_arrays, read=read, folder=os.getcwd())
        try:
            for view in range(views):
                self.set_epoch(view)
                batches = self._missing(batch_size, rank, world_size, self._held, self.dataset.fail)
                left = _count(batches)
                outcomes = fill_batches(
                    batches,
                    self.model,
                    read,
                    pool or processes,
                    max(1, workers),
                    dtype=self.autocast_dtype,
                    timeout=processes.TIMEOUT if workers else None,
                    left=left * (views - view),
                )
                # Closed here, so that decoders end also after an error.
                with tqdm(total=left, desc=_title(view, views), disable=quiet) as bar, closing(outcomes):
                    for clip, error in outcomes:
                        bar.update()
                        done += error is None
                        if error is not None:
                            table.add(error, video_of(clip))
                            self.dataset.fail(clip.number, error)
        finally:
            if pool is not None:
                pool.close()
            self.set_epoch(0)
            self.model.train(was_training)
        return done

    def _remove_leftovers(self) -> None:
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            remove_leftovers(folder)

    def _missing(
        self,
        batch_size: int,
        rank: int,
        world_size: int,
        held: Mapping[str, VideoDecodeError],
        on_held: Callable[[int, VideoDecodeError], object],
    ) -> list[Batch]:
        """Return the batches of this epoch that lack a file, without videos that are held back."""
        batches: list[Batch] = []
        for first in range(rank * batch_size, len(self), world_size * batch_size):
            clips: list[Clip] = []
            for index in range(first, min(first + batch_size, len(self))):
                row, path = self.dataset.rows[index], self.path(index)
                is_missing = not path.is_file()
                if is_missing and (error := held.get(str(row["video"]))):
                    on_held(index, error)
                    continue
                clips.append(Clip(row, self.dataset.seed_of(index), path.absolute(), index, is_missing))
            if any(clip.is_missing for clip in clips):
                batches.append(tuple(clips))
        return batches

    def shards(
        self,
        batch_size: int,
        settings: int,
        held: Mapping[str, VideoDecodeError],
        on_held: Callable[[int, VideoDecodeError], object],
    ) -> list[Shard]:
        """Return the work for what is missing of all views.

        Args:
            batch_size: clips of a forward pass.
            settings: number of this cache among those that are filled together.
            held: videos that are held back.
            on_held: called with the index of a clip that is missing for that, and why.
        """
        self._remove_leftovers()
        shards: list[Shard] = []
        for view in range(self.views):
            self.set_epoch(view)
            batches = self._missing(batch_size, 0, 1, held, on_held)
            shards += cut(batches, settings, _count(batches) * (self.views - view))
        self.set_epoch(0)
        return shards


@dataclass
class Filled:
    """What a run over caches did.

    Attributes:
        computed: clips that were computed.
        total: clips of all caches.
        videos: number of different videos.
        failures: path or address of a video that failed -> why.
    """

    computed: int = 0
    total: int = 0
    videos: int = 0
    failures: dict[str, VideoDecodeError] = field(default_factory=dict)


def fill_on_engine(
    caches: Sequence[FeatureCache],
    load: Callable[[str | None], FrozenBackbone],
    engine: Engine,
    batch_size: int = 8,
    *,
    table: FailureTable,
    timeout: float | None = None,
    quiet: bool = False,
) -> Filled:
    """Compute the missing files of caches by several workers, equal to those that one process computes.

    An unreadable video is a failure, whatever the policy of its list. A lost worker costs its shard alone, which is
    tried again, on a cluster three times at most.

    Args:
        caches: of one model.
        load: returns the model on a device, in a worker; a `partial` of a function of an importable module.
        engine: runs the workers.
        batch_size: clips of a forward pass; with another one, the last bits of a file may differ.
        table: gets the failures; what has killed or hung a decoder by its rows is not tried again.
        timeout: seconds after which a decoder counts as hung; 600 by default.
        quiet: show no progress bar.

    Raises:
        ValueError: if a worker finds other frozen weights.
        OSError: if there is too little disk space; finished files stay.
    """
    videos = sorted({video for cache in caches for video in cache.videos()})
    _, held = table.divide(videos)
    done = Filled(0, sum(cache.views * len(cache) for cache in caches), len(videos))
    first = caches[0]
    filling = Filling(
        first.fingerprint,
        load,
        tuple(cache.dataset.settings for cache in caches),
        first.autocast_dtype,
        processes.time_limit(timeout, processes.TIMEOUT),
        torch.get_num_threads(),
        os.getcwd(),
    )
    shards: list[Shard] = []
    for number, cache in enumerate(caches):

        def add(index: int, error: VideoDecodeError, rows: Sequence[Row] = cache.dataset.rows) -> None:
            done.failures[str(rows[index]["video"])] = error

        shards += cache.shards(batch_size, number, held, add)
    task = partial(fill_shard, filling=filling, engine=engine)
    with tqdm(total=sum(map(_missing_of, shards)), desc="Caching", unit="clip", disable=quiet) as bar:
        for shard, outcome in engine.map_ordered(task, shards, engine.workers, _name_of):
            if isinstance(outcome, Refusal):
                raise outcome.error
            failed = dict(_lost(shard) if isinstance(outcome, VideoDecodeError) else outcome)
            for batch in shard.batches:
                for clip in batch:
                    if error := failed.get(clip.number):
                        table.add(error, video_of(clip))
                        done.failures[video_of(clip)] = error
            done.computed += _missing_of(shard) - len(failed)
            bar.update(_missing_of(shard))
    return done


def _lost(shard: Shard) -> list[tuple[int, VideoDecodeError]]:
    """Return the failures of a shard whose workers died each time that it was tried."""
    missing = (clip for batch in shard.batches for clip in batch if not clip.path.is_file())
    return [(clip.number, lost_among_others(video_of(clip), "compute")) for clip in missing]


def _count(batches: Sequence[Batch]) -> int:
    return sum(clip.is_missing for batch in batches for clip in batch)


def _missing_of(shard: Shard) -> int:
    return _count(shard.batches)


def _name_of(shard: Shard) -> str:
    return f"a shard of {sum(map(len, shard.batches))} clips"


def _title(view: int, views: int) -> str:
    return f"Caching clip {view + 1} of {views}"


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
