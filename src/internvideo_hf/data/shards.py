"""Tar shards of videos (the layout of WebDataset), streamed, for data that does not fit a disk.

A sample is two members of one name: the video, `000000012.mp4`, and its row, `000000012.json`. Files written by other
tools are read, too: a `.txt` beside a video is its caption, a `.cls` its label.
"""

import hashlib
import io
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from internvideo_hf.data.dataset import check_policy
from internvideo_hf.data.dataset_files import sample_row, video_field
from internvideo_hf.data.failures import FailureLog, one_video
from internvideo_hf.data.layouts import DatasetRecord
from internvideo_hf.data.manifests import COLUMNS
from internvideo_hf.data.samples import Row, Sample, SampleSettings, make_sample, sample_seed
from internvideo_hf.utils.files import atomic_path, atomic_write_text, remove_leftovers
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.utils.names import reason_of
from internvideo_hf.video.downloads import DownloadSettings, open_address
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.members import StrictTarInfo, split_sample
from internvideo_hf.video.sources import check_file, is_url

INDEX = "shards.json"
_TIMEOUT = 60  # seconds without data from a server
_DAMAGED = "Copy or write the shard again."


# ---- writing --------------------------------------------------------------------------------------------------------


def write_shards(
    rows: Sequence[Row],
    folder: str | Path,
    *,
    samples_per_shard: int = 500,
    on_shard: Callable[[], object] = lambda: None,
) -> list[VideoDecodeError]:
    """Pack the videos of a manifest into tar files, byte for byte.

    Shards are written atomically; the same call resumes an interrupted one. Shuffle the rows before: the rows of a
    shard are read together.

    Args:
        rows: rows of a manifest; video files only.
        folder: directory of the shards and of `shards.json`, which lists them.
        samples_per_shard: rows of a shard.
        on_shard: called after each shard.

    Returns:
        The errors of videos that are in no shard, because nothing is there, or no file.

    Raises:
        ValueError: if there are no rows, or a number is below 1.
        FileExistsError: if the folder holds shards of other rows.
        LockedError: if another process writes into the folder.
    """
    if len(rows) == 0 or samples_per_shard < 1:
        raise ValueError(
            f"rows, samples_per_shard: got {len(rows)} rows and {samples_per_shard}, expected at least 1 of each; "
            "check the manifest"
        )
    with lock_folder(folder):
        return _write_all(rows, Path(folder), samples_per_shard, on_shard)


def _write_all(
    rows: Sequence[Row], folder: Path, samples_per_shard: int, on_shard: Callable[[], object]
) -> list[VideoDecodeError]:
    digest = hashlib.sha256(str(samples_per_shard).encode())
    for row in rows:
        digest.update(json.dumps(dict(row), sort_keys=True).encode())
    index = {"rows": len(rows), "samples_per_shard": samples_per_shard, "sha256": digest.hexdigest()}
    _claim(folder, index)
    remove_leftovers(folder)
    failures: list[VideoDecodeError] = []
    for first in range(0, len(rows), samples_per_shard):
        numbers = range(first, min(first + samples_per_shard, len(rows)))
        path = folder / f"{first // samples_per_shard:06d}.tar"
        good = []
        for number in numbers:
            try:
                with one_video(rows[number]["video"]):
                    good.append((number, check_file(rows[number]["video"], "Encode its frames as a video first.")))
            except VideoDecodeError as error:
                failures.append(error)
        if good and not path.exists():
            with atomic_path(path) as temporary, tarfile.open(temporary, "w") as shard:
                for number, file in good:
                    _add(shard, number, file, rows[number])
        on_shard()
    return failures


def _claim(folder: Path, index: dict[str, Any]) -> None:
    path = folder / INDEX
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != index:
        raise FileExistsError(f"{folder} holds shards of other rows. Choose another folder, or delete it.")
    if not path.exists() and any(folder.glob("*.tar")):
        raise FileExistsError(f"{folder} holds tar files of something else. Choose another folder.")
    atomic_write_text(path, json.dumps(index, indent=1))


def _add(shard: tarfile.TarFile, number: int, file: Path, row: Row) -> None:
    known = json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False).encode()
    about = tarfile.TarInfo(f"{number:09d}.json")
    about.size = len(known)
    # The row first: when the video comes, everything is known.
    shard.addfile(about, io.BytesIO(known))
    member = tarfile.TarInfo(f"{number:09d}{file.suffix.lower()}")
    member.size = file.stat().st_size
    with file.open("rb") as content:
        shard.addfile(member, content)


# ---- reading --------------------------------------------------------------------------------------------------------


class ShardDataset(IterableDataset[Sample]):
    """Samples of tar files, decoded in the worker that reads the file.

    A sample depends on `seed`, the epoch and its name in the shard; the ORDER also on the number of workers, among
    whom the shards are divided. Under the policy "skip" unreadable videos are left out.

    Over several processes there are two ways. With `world_size` at 1 Accelerate and Trainer distribute the samples:
    the first process reads and decodes for all, each clip once in an epoch; good for a few processes. With
    `world_size` every process reads shards of its own. Then `repeat` is needed for training, since processes have
    different numbers of samples, and for Trainer `accelerator_config={"dispatch_batches": False}` as well:

        ShardDataset(folder, settings, rank=args.process_index, world_size=args.world_size, repeat=True)

    Args:
        shards: paths or http(s) addresses of tar files, or one folder.
        settings: how a row becomes a sample.
        seed: at least 0.
        shuffle: size of the shuffle buffer in samples, held as undecoded bytes; 0 keeps the order of the shards.
        rank: number of this process, in [0, world_size).
        world_size: processes that share the shards.
        repeat: start the next epoch at the end of one: the dataset never ends.
        on_error: "raise" or "skip".
        failures: with "skip", the log that ends the run when too many fail, out of the samples that the worker has
            met, as their total is unknown.
        raw: see `VideoDataset`.

    Raises:
        ValueError: if there are fewer shards than processes, or the policy is unknown.
    """

    def __init__(
        self,
        shards: Sequence[str | Path] | str | Path,
        settings: SampleSettings | Mapping[str, SampleSettings],
        *,
        seed: int = 0,
        shuffle: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeat: bool = False,
        on_error: str = "raise",
        failures: FailureLog | None = None,
        raw: bool = False,
    ):
        check_policy(on_error, failures)
        if isinstance(shards, str | Path) and Path(shards).is_dir():
            shards = sorted(Path(shards).glob("*.tar"))
        self.shards = [str(shard) for shard in ([shards] if isinstance(shards, str | Path) else shards)]
        if not (0 <= rank < world_size <= len(self.shards)) or shuffle < 0:
            raise ValueError(
                f"got {len(self.shards)} shards for process {rank} of {world_size}, shuffle={shuffle}, expected a "
                "shard for each process, and at least 0; write smaller shards"
            )
        self.settings = settings
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.repeat = repeat
        self.failures = failures
        self.raw = raw
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Change the draws and the order: call it before an epoch's iterator is made."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples of this worker's shards.

        Raises:
            VideoDecodeError: if a shard is damaged, or a video and the policy is "raise".
            TooManyFailuresError: if the policy is "skip" and too many cannot be read.
        """
        met = 0
        for epoch in count(int(self._epoch)):
            before = met
            for row, content, name in self._drawn(epoch):
                met += 1
                try:
                    if isinstance(row, VideoDecodeError):
                        raise row
                    with one_video(row["video"]):
                        seed = sample_seed(self.seed, epoch, _number(name))
                        sample = make_sample(row, self.settings, seed, content, raw=self.raw)
                except VideoDecodeError as error:
                    if self.failures is None:
                        raise
                    self.failures.add(name, error, met)
                else:
                    yield sample
            if not self.repeat or met == before:
                return

    def _drawn(self, epoch: int) -> Iterator[tuple[Row | VideoDecodeError, bytes, str]]:
        worker = get_worker_info()
        part, parts = (0, 1) if worker is None else (worker.id, worker.num_workers)
        shards = list(self.shards)
        if self.shuffle:
            random.Random(sample_seed(self.seed, epoch, 0)).shuffle(shards)  # the same order in all processes
        own = shards[self.rank :: self.world_size][part::parts]
        draw = random.Random(sample_seed(self.seed, epoch, 1 + self.rank * parts + part))
        waiting: list[tuple[Row | VideoDecodeError, bytes, str]] = []
        for shard in own:
            for sample in _samples(shard):
                waiting.append(sample)
                if len(waiting) > self.shuffle:
                    yield waiting.pop(draw.randrange(len(waiting)) if self.shuffle else 0)
        draw.shuffle(waiting)
        yield from waiting


def _number(name: str) -> int:
    """Hash a sample's name to a number, so that its draws do not depend on its place."""
    return zlib.crc32(name.encode())


def read_shard(shard: str) -> Iterator[tuple[Row, bytes, str]]:
    """Read a tar file from front to back.

    Args:
        shard: path or http(s) address.

    Yields:
        The row, with the columns of a manifest; the video's bytes; and the sample's name in the shard.

    Raises:
        VideoDecodeError: if the shard cannot be read to its end, or holds a sample without a video or with a row that
            is none.
    """
    for row, content, name in _samples(shard):
        if isinstance(row, VideoDecodeError):
            raise row
        yield row, content, name


def _samples(shard: str) -> Iterator[tuple[Row | VideoDecodeError, bytes, str]]:
    """Yield as `read_shard`, with its error in the place of a row that cannot be read."""
    try:
        with _open(shard) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=StrictTarInfo) as tar:
            name = ""
            members: dict[str, bytes] = {}
            for member in tar:
                if not member.isfile() or (split := split_sample(member.name)) is None:
                    continue
                if (opened := tar.extractfile(member)) is None:
                    continue
                sample, field = split
                if sample != name and members:
                    yield _sample(shard, name, members)
                    members = {}
                name = sample
                content = opened.read()
                if len(content) != member.size:
                    raise tarfile.ReadError(f"{member.name} is cut off")
                members[field] = content
            if members:
                yield _sample(shard, name, members)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise VideoDecodeError(shard, f"the shard cannot be read ({reason_of(error)})", _DAMAGED) from error


def _open(shard: str) -> Any:
    if is_url(shard):
        return open_address(shard, replace(DownloadSettings.default(), timeout=_TIMEOUT))
    return open(shard, "rb")


def _sample(shard: str, name: str, members: dict[str, bytes]) -> tuple[Row | VideoDecodeError, bytes, str]:
    label = f"{shard}/{name}"
    try:
        field = video_field(members)
    except ValueError as error:
        return VideoDecodeError(label, str(error), "Rename the others in the shard."), b"", name
    if field is None:
        return VideoDecodeError(label, f"there is no video beside {', '.join(members)}", _DAMAGED), b"", name
    try:
        row, _ = DatasetRecord(sample_row(members, field)).sorted_out()
        _check_types(row)
    except (ValueError, RecursionError, MemoryError) as error:
        return VideoDecodeError(label, f"its row cannot be read ({error})", _DAMAGED), b"", name
    return {**{column: row.get(column) for column in COLUMNS}, "video": label}, members[field], name


_TYPES: dict[str, tuple[type, ...]] = {
    "label": (int, float, list),
    "caption": (str,),
    "start": (int, float),
    "end": (int, float),
    "num_frames": (int,),
}


def _check_types(row: Mapping[str, Any]) -> None:
    for column, types in _TYPES.items():
        value = row.get(column)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            expected = " or ".join(kind.__name__ for kind in types)
            raise ValueError(f"{column} is {str(value)[:50]!r}, expected {expected}")
