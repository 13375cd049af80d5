"""Shards of a list, and the files that hold their results until one process has taken them.

A shard has a key made of all that its result depends on, and its result is a file named by the key, which appears
in full or not at all. So it does not matter which process or machine computes it, nor how often; what is done is seen
from the names in the folder.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from internvideo_hf.data.executors.base import Executor, Item
from internvideo_hf.utils.files import atomic_write, remove_leftovers
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.storage import AnyPath, StoragePath
from internvideo_hf.utils.transfers import fetched, remove_folder
from internvideo_hf.video.errors import VideoDecodeError

SHARD_ITEMS = 128  # of a shard on average: what a lost worker costs
_SUFFIX = ".safetensors"
_LONGEST = 8  # averages; the next end puts the ends behind it where they were
_NOTES = "notes"


class Shard(NamedTuple, Generic[Item]):
    """Consecutive items of a list.

    Attributes:
        key: 32 hexadecimal digits, equal for the same work.
        items: one or more.
    """

    key: str
    items: tuple[Item, ...]


class Part(NamedTuple):
    """The result of a shard.

    Attributes:
        tensors: by name.
        notes: a value that JSON takes.
    """

    tensors: dict[str, torch.Tensor]
    notes: Any


class Engine(Executor, Protocol):
    """Runs shards in workers, each with a device for a model, and decoders that feed it.

    An engine is sent to its workers; its methods `device` and `executor` are for them.

    Attributes:
        workers: shards in progress at once.
        decoders: decoders of each worker.
    """

    workers: int
    decoders: int

    def device(self) -> str | None:
        """Return the device of this worker; None for the default one."""

    def executor(self) -> Executor:
        """Return what runs the decoders of this worker."""


def cut(items: Iterable[Item], name_of: Callable[[Item], str], size: int = SHARD_ITEMS) -> Iterator[tuple[Item, ...]]:
    """Divide a list into shards.

    Names, not places in the list, decide where a shard ends: an item more or less changes its own shard alone, and a
    list whose first shards are done leaves the same others.

    Args:
        items: the list.
        name_of: returns the name of an item.
        size: items of a shard on average.
    """
    held: list[Item] = []
    for item in items:
        held.append(item)
        digest = hashlib.blake2b(os.fsencode(name_of(item)), digest_size=8).digest()
        if int.from_bytes(digest, "big") % size == 0 or len(held) == _LONGEST * size:
            yield tuple(held)
            held = []
    if held:
        yield tuple(held)


def shard_key(facts: Iterable[Any], settings: Any) -> str:
    """Return the key of a shard.

    Args:
        facts: of its items, in order, such as path, size and time of change; values that JSON takes.
        settings: all else that the result depends on.
    """
    return json_sha256([settings, list(facts)])[:32]


class PartFolder:
    """A folder of parts, which several processes may write at once.

    Args:
        folder: created when the first part is written; on a disk that all workers share, or in an object store.
    """

    def __init__(self, folder: AnyPath):
        self.folder = folder

    def keys(self) -> set[str]:
        """Return the keys of all parts."""
        if isinstance(self.folder, StoragePath):
            return {name.removesuffix(_SUFFIX) for name in self.folder.files() if name.endswith(_SUFFIX)}
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:
            return {entry.name.removesuffix(_SUFFIX) for entry in entries if entry.name.endswith(_SUFFIX)}

    def write(self, key: str, part: Part) -> None:
        """Write a part, or the same one again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {_NOTES: json.dumps(part.notes)}
        tensors = {name: tensor.contiguous() for name, tensor in part.tensors.items()}
        atomic_write(self._file(key), lambda file: save_file(tensors, file, metadata))

    def read(self, key: str) -> Part:
        """Return a part.

        Raises:
            OSError: if it is not there.
        """
        with fetched(self._file(key)) as path, safe_open(path, "pt") as file:
            notes = json.loads(file.metadata()[_NOTES])
            return Part({name: file.get_tensor(name) for name in file.keys()}, notes)  # noqa: SIM118  # no mapping

    def delete(self, keys: Iterable[str]) -> None:
        """Delete parts that have been taken."""
        for key in keys:
            self._file(key).unlink(missing_ok=True)

    def delete_if(self, is_stale: Callable[[Part], bool]) -> None:
        """Delete the parts that are to be computed again.

        Args:
            is_stale: whether a part is one of them.
        """
        self.delete([key for key in self.keys() if is_stale(self.read(key))])

    def clear(self) -> None:
        """Delete the folder with all parts, also those of other settings and of lists that changed."""
        remove_folder(self.folder)

    def _file(self, key: str) -> AnyPath:
        return self.folder / f"{key}{_SUFFIX}"


def run_shards(
    work: Callable[[Sequence[Item]], Part],
    shards: Sequence[Shard[Item]],
    engine: Engine,
    parts: PartFolder,
    *,
    timeout: float | None = None,
) -> Iterator[tuple[Shard[Item], Part | VideoDecodeError]]:
    """Compute the parts that are missing, and yield all of them in the order of the shards.

    Args:
        work: computes the part of some items; a `partial` of a function of an importable module. An error that it
            raises ends the run.
        shards: of the list.
        engine: runs the work.
        parts: where the parts are; they stay there.
        timeout: seconds after which a shard counts as hung; None for no limit.

    Yields:
        A shard and its part, or why it has none: its workers died, each time that it was tried, or it hung.
    """
    if parts.folder.is_dir():
        remove_leftovers(parts.folder)
    done = parts.keys()
    missing = [shard for shard in shards if shard.key not in done]
    task = partial(_make_part, work=work, parts=parts)
    results = engine.map_ordered(task, missing, engine.workers, _name_of, timeout=timeout) if missing else iter(())
    for shard in shards:
        if shard.key not in done:
            _, outcome = next(results)
            if isinstance(outcome, VideoDecodeError):
                yield shard, outcome
                continue
            if outcome is not None:
                raise outcome
        try:
            part = parts.read(shard.key)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"A worker wrote {shard.key}{_SUFFIX}, and it is not in {parts.folder}, which must be on a disk that "
                "all machines share. Name another place for the output (--out); with --store, run in another folder."
            ) from error
        yield shard, part


def _name_of(shard: Shard[Any]) -> str:
    return f"a shard of {len(shard.items)} items"


def _make_part(shard: Shard[Item], work: Callable[[Sequence[Item]], Part], parts: PartFolder) -> Exception | None:
    """Compute and write a part; return an error, which executors would take for one of a video."""
    try:
        parts.write(shard.key, work(shard.items))
    except Exception as error:
        return error
    return None
