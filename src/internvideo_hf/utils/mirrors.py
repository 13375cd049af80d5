"""A folder of an object store as a folder of this machine, for work that changes many files in place."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from internvideo_hf.utils.files import TEMPORARY_PREFIX, atomic_path, atomic_write_text, remove_leftovers
from internvideo_hf.utils.fingerprints import text_sha256
from internvideo_hf.utils.locks import LOCK, lock_folder
from internvideo_hf.utils.storage import State, StoragePath, download, upload

_RECORD = ".mirror.json"
_Stamp = tuple[int, int]


class Mirror:
    """A folder of a store, and its copy on a disk.

    Args:
        place: the folder in the store; the caller holds its lock.
        folder: of the copy; created.
    """

    def __init__(self, place: StoragePath, folder: Path):
        self.place, self.folder = place, folder
        folder.mkdir(parents=True, exist_ok=True)
        # Of each file: what the store said, and size and time here, when both were last the same.
        self._same: dict[str, tuple[State, _Stamp]] = {}
        with suppress(OSError, ValueError, TypeError):  # without a record, all is copied again
            for name, (state, stamp) in json.loads((folder / _RECORD).read_text(encoding="utf-8")).items():
                self._same[name] = State(*state), (stamp[0], stamp[1])

    def pull(self) -> None:
        """Make the copy what the store holds; changes here that a killed process did not push stay where no other was.

        Raises:
            OSError: if an object cannot be read.
            ValueError: if the name of one leads out of the folder (`..`).
        """
        there = {name: state for name, state in self.place.states().items() if not _is_own(name)}
        for name in there:
            if ".." in name.split("/"):  # whoever writes to the store would write anywhere on this disk
                raise ValueError(
                    f"{self.place} holds {name!r}, a name that leads out of the folder. Delete the object."
                )
        for name, state in there.items():
            same = self._same.get(name)
            if same is None or same[0] != state or not (self.folder / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(self.folder / name) as temporary:
                    download(str(self.place / name), temporary)
                self._same[name] = state, _stamp_of(self.folder / name)
        for name in set(self._same) - set(there):
            (self.folder / name).unlink(missing_ok=True)
            del self._same[name]
        self._write_record()

    def push(self) -> None:
        """Make the store hold what the copy does: files in folders first, then those of the folder itself.

        Raises:
            OSError: if an object cannot be written.
        """
        files = (path for path in self.folder.rglob("*") if path.is_file())
        here = {name for name in (path.relative_to(self.folder).as_posix() for path in files) if not _is_own(name)}
        changed = [
            name for name in here if name not in self._same or self._same[name][1] != _stamp_of(self.folder / name)
        ]
        stamps = {}
        for name in sorted(changed, key=lambda name: ("/" not in name, name)):
            stamps[name] = _stamp_of(self.folder / name)
            upload(self.folder / name, str(self.place / name))
        for name in set(self._same) - here:
            (self.place / name).unlink(missing_ok=True)
            del self._same[name]
        if stamps:
            states = self.place.states()
            self._same |= {name: (states[name], stamp) for name, stamp in stamps.items() if name in states}
        self._write_record()

    def _write_record(self) -> None:
        atomic_write_text(self.folder / _RECORD, json.dumps(self._same))


@contextmanager
def mirrored(place: StoragePath, cache: Path) -> Iterator[Mirror]:
    """Yield the copy of a folder of a store, as it is there; hold its lock, and push changes at the end of the block.

    Changes are pushed after an error, too: they are what the next run goes on from. The copy stays on the disk, so
    that the same machine copies nothing twice.

    Args:
        place: the folder.
        cache: folder of copies.

    Raises:
        LockedError: if another process writes there, or to the copy.
        OSError: if the store cannot be read or written.
    """
    folder = cache / text_sha256(str(place))[:16]
    with lock_folder(place), lock_folder(folder):
        remove_leftovers(folder)
        mirror = Mirror(place, folder)
        mirror.pull()
        try:
            yield mirror
        finally:
            mirror.push()


def _is_own(name: str) -> bool:
    last = name.rpartition("/")[2]
    return name == _RECORD or last.startswith((LOCK, TEMPORARY_PREFIX))


def _stamp_of(file: Path) -> _Stamp:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
