"""Videos inside other files: in parquet and Arrow, as `datasets` writes them, and in tar, as WebDataset does.

Such a video is named by a path that leads through the file, on the disk or in an object store:
`data/train.parquet/17/clip.mp4` is that of row 17, counted from 0, whose own name is for people only;
`shards/000000.tar/clips/a.mp4` is a member. Nothing is unpacked: a read takes the bytes of one video into memory, of
parquet those of its row group up to the row (`datasets` writes groups of 100 MB); videos that are asked for in order
are read once. The last few files stay open in the process.
"""

import contextlib
import io
import json
import os
import posixpath
import re
import tarfile
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Protocol, Self

from internvideo_hf.utils.names import printable, reason_of
from internvideo_hf.utils.storage import as_path, is_stored, state_of

MEMBER_SUFFIXES = (".parquet", ".arrow", ".tar")
"""Suffixes of files that hold videos."""
_THROUGH = re.compile(r"\.(?:parquet|arrow|tar)(?=/)", re.IGNORECASE)
_BINARY_NAMES = ("video", "mp4", "webm", "mkv", "avi", "mov", "video_bytes", "bytes")
_MOST_OPEN = 4
_PAGE = 1 << 20  # bytes that are read ahead of a column


class MemberError(OSError):
    """A video inside another file cannot be read; `args` are one clause."""


def split_member(video: str) -> tuple[str, str] | None:
    """Return the file that a video lies in, and its name there; None for all other videos.

    Args:
        video: path, or address of an object store.
    """
    for match in _THROUGH.finditer(video) if "://" not in video or is_stored(video) else ():
        file, name = video[: match.end()], video[match.end() + 1 :]
        if name and (is_stored(file) or os.path.isfile(os.path.expanduser(file))):
            return file, name
    return None


def member_name(file: str, row: int, name: str | None) -> str:
    """Return the name of the video of a row, see the module.

    Args:
        file: parquet or Arrow, by an absolute path or an address.
        row: number from 0.
        name: the video's own name or path, as `datasets` keeps it; None for none.
    """
    own = re.split(r"[/\\]", name or "")[-1]
    shown = own if own not in ("", ".", "..") and printable(own) == own else ""
    return posixpath.join(file, str(row), shown).rstrip("/")


def read_member(video: str) -> bytes | str:
    """Read a video that lies in another file; return the name of any other video as it is.

    Args:
        video: path or address.

    Returns:
        Its bytes; or the path or address that a row has in their place, which a relative one has from the folder of
        the file.

    Raises:
        MemberError: if there is no such row or member, it is empty, or the file is damaged.
        OSError: if the file cannot be read.
        ImportError: if a library is missing that reads it.
    """
    found = split_member(video)
    if found is None:
        return video
    file, name = found
    with _lock:
        opened = _opened(os.path.expanduser(file))
        try:
            content = opened.read(name)
        except MemberError:
            raise
        except Exception as error:  # damaged files raise all kinds, pyarrow's own among them
            raise MemberError(f"the file around it is damaged ({reason_of(error)})") from error
    if isinstance(content, bytes):
        return content
    if "://" not in content:
        content = os.path.join(os.path.dirname(file), content)
    if split_member(content) is not None:
        raise MemberError(f"its row names {content}, which may be a row of its own kind")
    return content


def features_of(schema: Any) -> Mapping[str, Any]:
    """Return the features that `datasets` has left in a schema, by column; nothing without.

    Args:
        schema: a `pyarrow.Schema`.
    """
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features if isinstance(features, dict) else {}
    return {}


def video_column(schema: Any) -> str | None:
    """Return the column that holds videos: of the feature `Video`, of its structs, or of bytes; None without one.

    Args:
        schema: a `pyarrow.Schema`.

    Raises:
        MemberError: if several columns do, and none is called "video".
    """
    features = features_of(schema)
    kinds = {name: about.get("_type") for name, about in features.items() if isinstance(about, dict)}
    found = [name for name in schema.names if kinds.get(name) == "Video"]
    found = found or [field.name for field in schema if field.name not in kinds and _holds_files(field)]
    if len(found) > 1 and "video" not in found:
        raise MemberError(f"the columns {', '.join(found)} are videos, and none of them is called video")
    return "video" if "video" in found else found[0] if found else None


def _holds_files(field: Any) -> bool:
    from pyarrow import types

    if types.is_struct(field.type):
        return {field.type.field(place).name for place in range(field.type.num_fields)} == {"bytes", "path"}
    is_binary = types.is_binary(field.type) or types.is_large_binary(field.type)
    return is_binary and field.name.lower() in _BINARY_NAMES


class StrictTarInfo(tarfile.TarInfo):
    """A header that takes only a tar file's own end mark for its end.

    `tarfile` takes a damaged header, and the end of a truncated file, for the end of the archive.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # public, and not in the stub
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is cut off or damaged at byte {archive.offset}: {error}") from error


class _File(Protocol):
    def read(self, name: str) -> bytes | str: ...

    def close(self) -> None: ...


class _Parquet:
    """Videos of a parquet file by their rows."""

    def __init__(self, file: str):
        from pyarrow.parquet import ParquetFile

        self._file = as_path(file).open("rb")
        # Without buffers of whole columns: a row group may be large, and its first videos do not need the rest.
        self._parquet = ParquetFile(self._file, pre_buffer=False, buffer_size=_PAGE)
        metadata = self._parquet.metadata
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = [0, *accumulate(sizes)]
        self._column = _column_of(self._parquet.schema_arrow)
        self._rows: Iterator[tuple[int, Any]] = iter(())
        self._last: tuple[int, Any] = (-1, None)

    def read(self, name: str) -> bytes | str:
        row = _row_number(name, self._starts[-1])
        group = bisect_right(self._starts, row) - 1
        if self._last[0] != row:
            if not self._starts[group] <= self._last[0] < row:
                self._rows = self._rows_of(group)
            self._last = (-1, None)  # so that an error leaves nothing half read
            self._last = next(found for found in self._rows if found[0] == row)
        return _content_of(self._last[1])

    def _rows_of(self, group: int) -> Iterator[tuple[int, Any]]:
        batches = self._parquet.iter_batches(1, row_groups=[group], columns=[self._column], use_threads=False)
        for row, batch in enumerate(batches, self._starts[group]):
            yield row, batch.column(0)[0]

    def close(self) -> None:
        self._rows = iter(())
        self._parquet.close()
        self._file.close()


class _Arrow:
    """Videos of an Arrow file by their rows: mapped from the disk."""

    def __init__(self, file: str):
        self._mapped = open_arrow(file)
        self._videos = self._mapped.column(_column_of(self._mapped.schema))

    def read(self, name: str) -> bytes | str:
        return _content_of(self._videos[_row_number(name, len(self._videos))])

    def close(self) -> None:
        del self._videos, self._mapped


class _Tar:
    """Videos of a tar file by the names of its members."""

    def __init__(self, file: str):
        self._file = as_path(file).open("rb")
        self._places = {name: (member.offset_data, member.size) for name, member in tar_members(self._file)}

    def read(self, name: str) -> bytes | str:
        if name not in self._places:
            beside = [member for member in self._places if (split_sample(member) or ("",))[0] == name]
            raise MemberError(f"there is no video beside {', '.join(beside)}" if beside else f"it holds no {name}")
        begin, size = self._places[name]
        self._file.seek(begin)
        content: bytes = self._file.read(size)
        if len(content) != size:
            raise MemberError(f"{name} is cut off")
        return content

    def close(self) -> None:
        self._file.close()


def open_arrow(file: str) -> Any:
    """Return an Arrow file as a `pyarrow.Table`, mapped from the disk.

    Args:
        file: a stream, as `save_to_disk` writes it, or a file of record batches.

    Raises:
        MemberError: if it is damaged, or not on a disk.
        OSError: if it cannot be read.
    """
    import pyarrow

    if is_stored(file):
        raise MemberError("Arrow is read from a disk alone; copy it there, or write parquet")
    mapped = pyarrow.memory_map(file)
    is_stream = mapped.read(6) != b"ARROW1"
    mapped.seek(0)
    reader = pyarrow.ipc.open_stream(mapped) if is_stream else pyarrow.ipc.open_file(mapped)
    return reader.read_all()


def tar_members(file: Any) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the files of a tar file with their names, as paths go through it, by its headers alone.

    Args:
        file: opened, not compressed.

    Raises:
        tarfile.TarError, OSError: if it is damaged.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", tarinfo=StrictTarInfo) as tar:
        for member in tar:
            if member.isfile() and member.offset_data + member.size > size:
                raise tarfile.ReadError(f"{member.name} is cut off")
            if member.isfile():
                yield posixpath.normpath(f"/{member.name}").lstrip("/"), member


def split_sample(name: str) -> tuple[str, str] | None:
    """Split the name of a member of a tar file into its sample and its field, as WebDataset does: at the first dot.

    Args:
        name: of a file, below folders whose dots do not count.

    Returns:
        The sample, with its folders, and the field from the dot on, in small letters, such as `.front.mp4`; None for
        a member of no sample: one without a dot, or a hidden one.
    """
    folder, slash, own = name.rpartition("/")
    sample, dot, field = own.partition(".")
    return (f"{folder}{slash}{sample}", f".{field.lower()}") if sample and dot else None


def _column_of(schema: Any) -> str:
    column = video_column(schema)
    if column is None:
        raise MemberError(f"no column holds videos; there are {', '.join(schema.names)}")
    return column


def _row_number(name: str, count: int) -> int:
    number = name.partition("/")[0]
    if not (number.isascii() and number.isdecimal() and len(number) < 20 and int(number) < count):
        raise MemberError(f"it has no row {number}; there are 0 to {count - 1}")
    return int(number)


def _content_of(value: Any) -> bytes | str:
    """Return the bytes, or the path, of a value of Arrow."""
    row = value.as_py()
    content, path = (row.get("bytes"), row.get("path")) if isinstance(row, dict) else (row, None)
    if content:
        return bytes(content)
    if content is None and path:
        return str(path)
    raise MemberError("the row has an empty video" if content is not None else "the row has neither bytes nor a path")


_KINDS: dict[str, type[_Parquet] | type[_Arrow] | type[_Tar]] = {".parquet": _Parquet, ".arrow": _Arrow, ".tar": _Tar}
_open: OrderedDict[tuple[str, int, int], _File] = OrderedDict()
_lock = threading.Lock()


def _opened(file: str) -> _File:
    """Return a file that is kept open, or open it; one that was written again is another."""
    if is_stored(file):
        key = (file, *state_of(file)[:2])
    else:
        status = os.stat(file)
        key = (os.path.abspath(file), status.st_size, status.st_mtime_ns)
    if key not in _open:
        try:
            opened = _KINDS[as_path(file).suffix.lower()](file)
        except (MemberError, ImportError):
            raise
        except Exception as error:
            raise MemberError(f"the file around it cannot be opened ({reason_of(error)})") from error
        while len(_open) >= _MOST_OPEN:
            _open.popitem(last=False)[1].close()
        _open[key] = opened
    _open.move_to_end(key)
    return _open[key]


def _forget_opened() -> None:
    """Let a forked child open its own files: the place in the parent's is shared."""
    global _lock, _open
    _lock, _inherited[:] = threading.Lock(), [*_inherited, _open]
    _open = OrderedDict()


_inherited: list[Any] = []  # not closed: that would end the parent's, too
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_opened)
