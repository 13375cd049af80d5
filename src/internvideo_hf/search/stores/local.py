"""An index in a folder of a disk or of an object store: files of rows, and a header that names those that count."""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from internvideo_hf.search.stores.base import OPTIONAL, SETTINGS, Info, Known, check_agreement
from internvideo_hf.search.stores.copies import Copies
from internvideo_hf.search.stores.nearest import Approximate, scan
from internvideo_hf.search.stores.quantized import Codes
from internvideo_hf.search.stores.segments import Clip, Segment, Video, compact, gather, locate, merge
from internvideo_hf.search.where import Where, columns_of, mask
from internvideo_hf.utils.devices import DTYPES
from internvideo_hf.utils.files import atomic_write_text, remove_leftovers
from internvideo_hf.utils.fingerprints import tensors_sha256, text_sha256
from internvideo_hf.utils.locks import is_own_file, lock_folder
from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.utils.transfers import check_scheme

FORMAT = 1
HEADER = "index.json"
_ROWS = r"rows-[0-9a-f]{12}\.safetensors"
_OWN_FILES = ("rows-*.safetensors", "approximate-*.faiss", "null-captions-*.safetensors")
CODED_ROWS = 4096  # of a segment, from which on an 8-bit copy of it makes searches faster
_CODES = "codes."  # begins the names of its tensors
_ATTEMPTS = 3  # at reading an index that another process changes meanwhile


class LocalStore:
    """A `VectorStore` in a folder, or in memory.

    Embeddings are mapped from disk; those in an object store from copies in the cache of models. One process at a time
    may change a folder; any number may search in it. A folder without a header is empty: files of a process that was
    killed before it wrote the first one count as nothing.

    Args:
        settings: of the index, see `SETTINGS`.
        folder: a new or empty one, also of an object store; None keeps the rows in memory. The first rows create it.

    Attributes:
        settings: as given; written with the next change.
        segments: the rows, in order.
        folder: where they are; None in memory.

    Raises:
        ValueError: if `folder` is not empty.
    """

    def __init__(self, settings: dict[str, Any], folder: AnyPath | None = None):
        self.settings = settings
        self.segments: list[Segment] = []
        self.folder: AnyPath | None = None
        self._copies: Copies | None = None
        self._approximate: Approximate | None = None
        self._paths: set[str] | None = None  # of the videos of all segments, once they are needed
        self._cached: dict[str, torch.Tensor] = {}
        self._header = ""  # as this store last read or wrote it
        self._stamp: tuple[int, ...] | None = None  # of its file
        if folder is not None:
            self._settle_in(folder)

    @classmethod
    def load(cls, folder: AnyPath) -> "LocalStore":
        """Open a folder, and map its rows.

        Raises:
            ValueError: if it holds no index, or one that is damaged or of another format.
        """
        store = cls({})
        store._read(folder)
        return store

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to change the folder, with the rows that are in it now."""
        if self.folder is None:
            yield
            return
        with lock_folder(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if (self.folder / HEADER).read_text(encoding="utf-8") != self._header:
                    self._take_over()
            yield

    def refresh(self) -> None:
        """See the rows that another process has written since, if the folder is on a disk."""
        if not isinstance(self.folder, Path):
            return  # an object store would be asked each time
        stamp = _stamp(self.folder)
        if stamp not in (None, self._stamp):
            self._stamp = stamp  # what cannot be read is not tried again until it changes
            self._take_over()

    def _take_over(self) -> None:
        """Read what another process wrote since this store was opened."""
        assert self.folder is not None  # memory has no other process
        check_agreement(str(self.folder), LocalStore.load(self.folder).settings, self.settings)
        self._read(self.folder)

    def _read(self, folder: AnyPath) -> None:
        copies = Copies(folder)
        for attempt in range(_ATTEMPTS):
            stamp = _stamp(folder)
            text, header = _read_header(folder)
            try:
                segments = [_load_segment(folder, file, copies) for file in header["parts"]]
                break
            except ValueError:
                # Another process may have replaced the rows between the two reads.
                if attempt == _ATTEMPTS - 1 or _read_header(folder)[0] == text:
                    raise
        copies.keep(header["parts"])
        self.folder, self.segments, self._header, self._copies = folder, segments, text, copies
        self._stamp = stamp
        self._approximate = self._paths = None
        self.settings |= {name: header[name] for name in (*SETTINGS, *OPTIONAL) if name in header}

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self.segments))

    def info(self) -> Info:
        """Return what the store holds."""
        return Info(len(self._known_paths()), len(self))

    @property
    def place(self) -> str | None:
        """Where the rows are; None in memory."""
        return None if self.folder is None else str(self.folder)

    def known(self) -> Known:
        """Return the videos, and the clips that they lack."""
        videos = {video.path: video for segment in self.segments for video in segment.videos}
        counts = dict.fromkeys(videos, 0)
        for segment in self.segments:
            rows = torch.bincount(segment.video, minlength=len(segment.videos)).tolist()
            for video, count in zip(segment.videos, rows, strict=True):
                counts[video.path] += count
        missing = {path: set(range(video.clips)) for path, video in videos.items() if counts[path] < video.clips}
        for segment in self.segments if missing else ():
            for place, video in enumerate(segment.videos):
                if video.path in missing:
                    missing[video.path] -= set(segment.number[segment.video == place].tolist())
        return Known(videos, {path: tuple(sorted(numbers)) for path, numbers in missing.items()})

    def rows(self, videos: Collection[str] | None = None) -> Iterator[Segment]:
        """Yield the rows of some videos, or all, in the order of their numbers, which start from 0."""
        for segment in self.segments:
            others = () if videos is None else {video.path for video in segment.videos} - set(videos)
            if len(kept := segment.without(others)):
                yield kept

    def upsert(self, segment: Segment) -> None:
        """Add rows, in place of those of the same video and number."""
        embeddings = segment.embeddings.to(getattr(torch, self.settings["dtype"]))
        paths, known, kept = {video.path for video in segment.videos}, self._known_paths(), self.segments
        if not paths.isdisjoint(known):
            new = set(segment.keys())
            kept = [_without_rows(old, new) if paths & {v.path for v in old.videos} else old for old in kept]
        known |= paths  # rows that go give way to others of the same videos, so no path goes
        self._replace([*kept, replace(segment, embeddings=embeddings, codes=None, file=None)], known)

    def delete(self, videos: Collection[str]) -> None:
        """Remove videos."""
        self.rewrite(removed=videos)

    def rewrite(
        self,
        *,
        removed: Collection[str] = (),
        renamed: Mapping[str, Video] | None = None,
        copied: Sequence[tuple[str, Video]] = (),
    ) -> None:
        """Remove, rename and copy videos in one change."""
        copies = [self._copy(path, video) for path, video in copied]
        kept = [segment.without(removed).renamed(renamed or {}) for segment in self.segments]
        self._replace(kept + copies)

    def compact(self) -> None:
        """Merge small segments."""
        self._replace(compact(self.segments))

    def embeddings(self) -> torch.Tensor:
        """Return all embeddings; this reads the whole index."""
        return torch.cat([segment.embeddings for segment in self.segments]) if self.segments else torch.empty(0, 0)

    def gather(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the embeddings of some rows."""
        return gather(self.segments, rows)

    def clips(self, rows: Sequence[int] | torch.Tensor) -> list[Clip]:
        """Return the clips of some rows, their times rounded to milliseconds."""
        found: list[Clip] = [("", None, None)] * len(rows)
        for segment, places, inner in locate(self.segments, rows):
            for place, clip in zip(places.tolist(), segment.clips(inner), strict=True):
                found[place] = clip
        return found

    def columns(self) -> dict[str, str]:
        """Return the names and kinds of the videos' metadata."""
        return columns_of([video.metadata for segment in self.segments for video in segment.videos])

    def count(self, where: Where | None = None) -> int:
        """Return the number of rows that satisfy a condition."""
        return len(self) if where is None else sum(int(mask(where, segment).sum()) for segment in self.segments)

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False, where: Where | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that are most similar to some embeddings, by a scan of all rows or by faiss."""
        if not self.segments:
            raise ValueError("The index is empty. Add videos to it first.")
        allowed = None
        if where is not None:
            allowed = torch.from_numpy(np.concatenate([mask(where, segment) for segment in self.segments]))
        if approximate:
            return self._load_approximate().search(self.segments, queries, count, allowed)
        return scan(self.segments, queries, count, allowed)

    def build_approximate(self) -> None:
        """Build the approximate index of faiss, and save it beside the rows.

        Raises:
            ImportError: if faiss is not installed (extra `search`).
            ValueError: if there are too few rows.
        """
        self._approximate = Approximate.build(self.segments)
        if self._copies is not None:
            self._copies.put(self._approximate_name(), self._approximate.write)

    def cached(self, name: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a tensor that is kept in a file of this name, computing it the first time."""
        if name not in self._cached:
            if self._copies is not None:
                with contextlib.suppress(OSError, SafetensorError, KeyError):  # a damaged file is computed again
                    self._cached[name] = load_file(self._copies.get(f"{name}.safetensors"))["embeddings"]
        if name not in self._cached:
            tensor = self._cached[name] = compute()
            # A store says that it may only be read when it is written to.
            may_write = not isinstance(self.folder, Path) or os.access(self.folder, os.W_OK)
            if self._copies is not None and may_write:
                with contextlib.suppress(PermissionError):
                    self._copies.put(f"{name}.safetensors", lambda path: save_file({"embeddings": tensor}, path))
        return self._cached[name]

    def _settle_in(self, folder: AnyPath) -> None:
        check_scheme(folder)
        if (folder / HEADER).exists():
            raise ValueError(f"{folder} holds an index: open it with VideoIndex.load, or name a new folder.")
        if folder.exists() and (not folder.is_dir() or not all(map(_is_unfinished, folder.iterdir()))):
            raise ValueError(f"{folder} holds something else. Name a new folder for a new index.")
        self.folder, self._copies = folder, Copies(folder)

    def _copy(self, path: str, video: Video) -> Segment:
        return merge([*self.rows([path])]).renamed({path: video})

    def _known_paths(self) -> set[str]:
        """Return the paths of all videos; a commit does not look at all of them again."""
        if self._paths is None:
            self._paths = {video.path for segment in self.segments for video in segment.videos}
        return self._paths

    def _replace(self, segments: Sequence[Segment], paths: set[str] | None = None) -> None:
        """Take other segments, whose videos have these paths, if they are known."""
        self.segments = [_with_codes(segment) for segment in segments if len(segment)]
        self._approximate, self._paths = None, paths
        self._write()

    def _write(self) -> None:
        """Write new segments, then the header that names them, then delete the old ones."""
        folder, copies = self.folder, self._copies
        # An index that never held anything leaves no folder.
        if folder is None or copies is None or not (self.segments or (folder / HEADER).exists()):
            return
        folder.mkdir(parents=True, exist_ok=True)
        for segment in self.segments:
            # A store would be asked about each file with each commit.
            if segment.file is None or (isinstance(folder, Path) and not (folder / segment.file).exists()):
                _save_segment(copies, segment)
        files = [segment.file for segment in self.segments if segment.file is not None]
        header = {
            "format": FORMAT,
            **self.settings,
            "videos": len(self._known_paths()),
            "clips": len(self),
            "parts": files,
        }
        text = json.dumps(header, indent=1, ensure_ascii=False)
        atomic_write_text(folder / HEADER, text)
        self._header, self._stamp = text, _stamp(folder)
        copies.keep(files)
        current = {*files, self._approximate_name()}
        for pattern in _OWN_FILES[:2]:
            for file in folder.glob(pattern):
                if file.name not in current:
                    file.unlink(missing_ok=True)
        remove_leftovers(folder)

    def _load_approximate(self) -> Approximate:
        if self._approximate is None and self._copies is not None:
            with contextlib.suppress(FileNotFoundError):
                self._approximate = Approximate.load(self._copies.get(self._approximate_name()))
        if self._approximate is None:
            raise ValueError(
                "There is no approximate index of these clips, or they changed since. Build it (`build_approximate`, "
                "or `internvideo index ... --approximate`), or search exactly."
            )
        return self._approximate

    def _approximate_name(self) -> str:
        """Return the name of the file of the approximate index of exactly these segments."""
        state = text_sha256(" ".join(str(segment.file) for segment in self.segments))[:12]
        return f"approximate-{state}.faiss"


def _is_unfinished(file: AnyPath) -> bool:
    """Return whether a file is what a process leaves that is killed before it writes the first header."""
    return is_own_file(file) or any(fnmatch(file.name, pattern) for pattern in _OWN_FILES)


def _stamp(folder: AnyPath) -> tuple[int, ...] | None:
    """Return what tells a header's file from those before; None if it is not there, or in an object store."""
    if isinstance(folder, Path):
        with contextlib.suppress(OSError):
            found = (folder / HEADER).stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _read_header(folder: AnyPath) -> tuple[str, dict[str, Any]]:
    """Return the header as text and as values."""
    try:
        text = (folder / HEADER).read_text(encoding="utf-8")
        header = json.loads(text)
        if not isinstance(header, dict) or not isinstance(header.get("parts"), list):
            raise ValueError("it names no parts")
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no index ({HEADER} is missing). `internvideo index` makes one from a folder of videos."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder / HEADER} cannot be read ({reason_of(error)}). Delete {folder}, and build it again."
        ) from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has the format {header.get('format')!r}, this version reads {FORMAT}. Build the index again."
        )
    if lacking := [name for name in SETTINGS if name not in header]:
        raise ValueError(f"{folder / HEADER} lacks {', '.join(lacking)}. Delete {folder}, and build it again.")
    given = [(name, header[name]) for name in (*SETTINGS, *OPTIONAL) if name in header]
    for name, value in [*given, *(("parts", file) for file in header["parts"])]:
        if not _is_possible(name, value):
            raise ValueError(
                f"{folder / HEADER} is damaged: {name} is {value!r}. Delete {folder}, and build it again."
            )
    return text, header


def _is_possible(name: str, value: Any) -> bool:
    """Return whether a header may hold a value; names of files must not lead out of the folder."""
    if name == "parts":
        return isinstance(value, str) and re.fullmatch(_ROWS, value) is not None
    if name in ("window", "stride"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value is None or (is_number and 0 < value < math.inf)
    if name == "dtype":
        return value in ("float32", "float16")
    if name == "model_dtype":
        return value in DTYPES
    return isinstance(value, str) or (name == "fingerprint" and value is None)


def _without_rows(segment: Segment, keys: Collection[tuple[str, int]]) -> Segment:
    kept = torch.tensor([key not in keys for key in segment.keys()])
    return segment if kept.all() else segment.select(kept)


def _with_codes(segment: Segment) -> Segment:
    """Return a segment with an 8-bit copy, also of rows whose file has none, if they are many."""
    if segment.codes is not None or len(segment) < CODED_ROWS:
        return segment
    return replace(segment, codes=Codes.of_rows(segment.embeddings), file=None)


def _save_segment(copies: Copies, segment: Segment) -> None:
    """Write rows to a new file, and map them from there."""
    videos = json.dumps([_entry(video) for video in segment.videos]).encode()
    tensors = {
        "embeddings": segment.embeddings.contiguous(),
        "spans": segment.spans.contiguous(),
        "video": segment.video.contiguous(),
        "number": segment.number.contiguous(),
        "videos": torch.frombuffer(bytearray(videos), dtype=torch.uint8),  # too long for the metadata of safetensors
    }
    if segment.codes is not None:
        tensors |= {f"{_CODES}{name}": tensor.contiguous() for name, tensor in vars(segment.codes).items()}
    file = f"rows-{tensors_sha256(tensors)[:12]}.safetensors"  # the same rows make the same folder
    mapped = load_file(copies.put(file, lambda path: save_file(tensors, path)))
    segment.codes, segment.file = _pop_codes(mapped), file
    segment.embeddings, segment.spans = mapped["embeddings"], mapped["spans"]
    segment.video, segment.number = mapped["video"], mapped["number"]


def _entry(video: Video) -> list[Any]:
    """Return the values of a video; its metadata, which files of older versions lack, only if it has any."""
    values = list(asdict(video).values())
    return values if video.metadata else values[:-1]


def _pop_codes(tensors: dict[str, torch.Tensor]) -> Codes | None:
    """Take the 8-bit copy out of the tensors of a file; files of older versions hold none."""
    found = {name.removeprefix(_CODES): tensors.pop(name) for name in [*tensors] if name.startswith(_CODES)}
    return Codes(**found) if found else None


def _load_segment(folder: AnyPath, file: str, copies: Copies) -> Segment:
    try:
        tensors = load_file(copies.get(file))
        videos = [Video(*values) for values in json.loads(tensors.pop("videos").numpy().tobytes())]
        codes = _pop_codes(tensors)
        segment = Segment(videos, file=file, codes=codes, **tensors)
        _check_rows(segment)
        return segment
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / file} is missing or damaged ({reason_of(error)}). Delete {folder}, and build it again."
        ) from error


def _check_rows(segment: Segment) -> None:
    """Refuse rows that do not fit each other; the embeddings stay on disk and are not looked at.

    Raises:
        ValueError: saying what does not fit.
    """
    rows, videos = len(segment.video), segment.videos
    if segment.embeddings.ndim != 2 or {len(segment.embeddings), len(segment.spans), len(segment.number)} != {rows}:
        raise ValueError("its tables have different lengths")
    if segment.spans.shape != (rows, 2) or not segment.embeddings.is_floating_point():
        raise ValueError("its tables have other shapes")
    if segment.codes is not None:
        segment.codes.check(segment.embeddings)
    for video in videos:
        if not (isinstance(video.path, str) and isinstance(video.content, str)) or any(
            type(number) is not int for number in (video.size, video.mtime, video.clips)
        ):
            raise ValueError(f"the entry of a video is {video}")
        if not isinstance(video.metadata, dict) or any(
            not isinstance(value, str | int | float) for value in video.metadata.values()
        ):
            raise ValueError(f"the metadata of a video is {video.metadata}")
    if rows and not (0 <= segment.video.min() and segment.video.max() < len(videos)):
        raise ValueError("a row belongs to a video that is not there")
    clips = torch.tensor([video.clips for video in videos])[segment.video]
    begin, end = segment.spans[:, 0], segment.spans[:, 1]
    timeless = begin.isnan() & end.isnan()
    if not ((segment.number >= 0) & (segment.number < clips)).all():
        raise ValueError("the number of a clip is out of range")
    if not (timeless | ((begin >= 0) & (begin <= end) & (end < math.inf))).all():
        raise ValueError("the times of a clip are out of range")
