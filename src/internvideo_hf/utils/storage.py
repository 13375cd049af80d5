"""Files of object stores by their addresses, such as `s3://bucket/clips/a.mp4`, through fsspec.

Only the schemes of `SCHEMES` are opened, and only what is named: fsspec's chains (`a::b`) and its other schemes are
refused. Credentials are found by the package of the store, as by its own tools; none is read or kept here.

So whoever chooses an address reads with the credentials of the process. A service that passes on addresses of others
sets `INTERNVIDEO_STORES`: to `none`, or to what may be opened, separated by commas: schemes, such as `gs`, or folders,
such as `s3://public/videos`.
"""

import errno
import hashlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeAlias, TypeGuard

from internvideo_hf.utils.names import reason_of

SCHEMES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
    "memory": "fsspec",
}
"""Scheme of addresses -> the package that opens them; `memory` is of the process, for tests."""
ALLOWED = "INTERNVIDEO_STORES"
"""Environment variable that limits the stores; all are opened without it."""
NAMED_SCHEMES = "s3://, gs://, az:// or hf://"
"""The schemes for messages."""
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)})://", re.IGNORECASE)
_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}):(?:/+|$)", re.IGNORECASE)
# Entries of what stores say of an object that change with its content, and of when it was written.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "oid")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
_PACKAGE = __name__.partition(".")[0]
_LACKS_CREDENTIALS = re.compile(r"credentials?|token|login|anonymous", re.IGNORECASE)


def is_stored(path: object) -> TypeGuard[str]:
    """Return whether a text is the address of a file or folder in an object store."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


class StoragePath:
    """A file or folder of an object store, with the methods of `pathlib.Path` that this package needs.

    A store has no folders: there is one while there are objects below it.

    Args:
        address: such as `s3://bucket/lists/train.csv`.
    """

    def __init__(self, address: str):
        scheme, _, rest = address.partition("://")
        self._address = f"{scheme.lower()}://{rest.rstrip('/')}"
        self._pure = PurePosixPath(rest)

    def __str__(self) -> str:
        return self._address

    def __fspath__(self) -> str:
        return self._address

    def __repr__(self) -> str:
        return f"StoragePath({self._address!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoragePath) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __lt__(self, other: "StoragePath") -> bool:
        return self._address < other._address

    def __truediv__(self, name: str | os.PathLike[str]) -> "StoragePath":
        text = os.fspath(name)
        return StoragePath(text) if is_stored(text) else self._at(self._pure / text)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self._pure.name

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return self._pure.suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._pure.stem

    @property
    def parent(self) -> "StoragePath":
        """The folder."""
        return self._at(self._pure.parent)

    def with_name(self, name: str) -> "StoragePath":
        """Return the address with another last part."""
        return self._at(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> "StoragePath":
        """Return the address with another ending of the name."""
        return self._at(self._pure.with_suffix(suffix))

    def expanduser(self) -> "StoragePath":
        """Return the address as it is."""
        return self

    absolute = resolve = expanduser

    def exists(self) -> bool:
        """Return whether there is such an object or folder."""
        with _errors(self._address):
            files, path = _opened(self._address)
            return bool(files.exists(path))

    def is_dir(self) -> bool:
        """Return whether there are objects below."""
        with _errors(self._address):
            files, path = _opened(self._address)
            return bool(files.isdir(path))

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        with _errors(self._address):
            files, path = _opened(self._address)
            return bool(files.isfile(path))

    def iterdir(self) -> Iterator["StoragePath"]:
        """Yield what the folder holds."""
        with _errors(self._address):
            files, path = _opened(self._address)
            names = files.ls(path, detail=False)
        yield from (self / PurePosixPath(str(name)).name for name in names)

    def files(self) -> list[str]:
        """Return the paths of all files below, relative to the folder; sorted.

        Raises:
            OSError: if the store cannot be asked.
        """
        return sorted(self._find())

    def states(self) -> "dict[str, State]":
        """Return what the store says of all files below, by their paths relative to the folder.

        Raises:
            OSError: if the store cannot be asked.
        """
        return {name: _state(about) for name, about in self._find().items()}

    def _find(self) -> dict[str, Any]:
        with _errors(self._address):
            files, path = _opened(self._address)
            files.invalidate_cache()  # of listings: what came since the last one counts
            try:
                found = files.find(path, detail=True)
            except FileNotFoundError:
                found = {}
        root = path.rstrip("/")
        return {str(file).removeprefix(root).lstrip("/"): about for file, about in found.items()}

    def glob(self, pattern: str) -> list["StoragePath"]:
        """Return the files whose names match; sorted.

        Args:
            pattern: of a name, with `*`, `?` and `[...]`.
        """
        with _errors(self._address):
            files, path = _opened(self._address)
            files.invalidate_cache()
            found = files.glob(f"{path.rstrip('/')}/{pattern}")
        return sorted(self / PurePosixPath(str(file)).name for file in found)

    def open(self, mode: str = "r", encoding: str | None = None, newline: str | None = None) -> IO[Any]:
        """Open the object for reading, as `pathlib.Path.open` does; ranges of it are fetched as they are read.

        Raises:
            OSError: if it cannot be opened.
        """
        if mode not in ("r", "rb"):
            raise ValueError(f"mode={mode!r}: expected 'r' or 'rb'; `upload` writes.")
        with _errors(self._address):
            files, path = _opened(self._address)
            # Columns of parquet are ranges far apart; text is read from front to back.
            content: IO[bytes] = files.open(path, "rb", cache_type="none" if mode == "rb" else "readahead")
        return content if mode == "rb" else io.TextIOWrapper(content, encoding=encoding or "utf-8", newline=newline)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the object as text."""
        with self.open("r", encoding=encoding) as file:
            return str(file.read())

    def read_bytes(self) -> bytes:
        """Return the content of the object."""
        with _errors(self._address):
            files, path = _opened(self._address)
            return bytes(files.cat_file(path))

    def write_bytes(self, content: bytes, *, is_new: bool = False) -> None:
        """Write the object, in full or not at all.

        Args:
            content: of the object.
            is_new: refuse to replace one, by a condition that the store checks as it writes.

        Raises:
            FileExistsError: if `is_new`, and there is such an object.
            OSError: if it cannot be written.
        """
        with _errors(self._address, "written"):
            files, path = _opened(self._address)
            try:
                files.pipe_file(path, content, mode="create" if is_new else "overwrite")
            except FileExistsError as error:
                raise FileExistsError(errno.EEXIST, "there is such an object", self._address) from error

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        with _errors(self._address, "written"):
            files, path = _opened(self._address)
            try:
                files.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def delete_all(self) -> None:
        """Delete all objects below."""
        with _errors(self._address, "written"):
            files, path = _opened(self._address)
            files.invalidate_cache(path)
            if files.isdir(path):
                files.rm(path, recursive=True)

    def modified(self) -> datetime:
        """Return when the object was last written, by the clock of the store."""
        with _errors(self._address):
            files, path = _opened(self._address)
            files.invalidate_cache(path)
            written: datetime = files.modified(path)
            return written

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: objects need no folder."""

    def _at(self, pure: PurePosixPath) -> "StoragePath":
        return StoragePath(f"{self._address.partition('://')[0]}://{pure}")


AnyPath: TypeAlias = Path | StoragePath


def as_path(path: str | os.PathLike[str]) -> AnyPath:
    """Return a path of the disk, or of an object store.

    Args:
        path: a path or an address; also an address that went through `pathlib`, which drops one of its slashes.
    """
    text = os.fspath(path)
    if is_stored(text):
        return StoragePath(text)
    if isinstance(path, Path) and (match := _COLLAPSED.match(path.as_posix())):
        return StoragePath(f"{match[1]}://{path.as_posix()[match.end() :]}")
    return Path(text)


def below(root: str | AnyPath, name: str | os.PathLike[str]) -> AnyPath:
    """Return the path of a name below a folder; an absolute path or an address stays what it is.

    Args:
        root: a folder, also of an object store.
        name: relative to it.
    """
    text = os.fspath(name)
    if is_stored(text):
        return StoragePath(text)
    return Path(text) if os.path.isabs(text) else as_path(root) / text


class State(NamedTuple):
    """What a store says of an object.

    Attributes:
        size: bytes.
        version: number that changes when the object is written again: of its entity tag, or of its time.
        content: hash that objects of the same content share; None where the store knows none.
    """

    size: int
    version: int
    content: str | None


def state_of(address: str) -> State:
    """Ask a store about an object.

    Args:
        address: of the object.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if the store cannot be asked.
    """
    with _errors(address):
        files, path = _opened(address)
        about = files.info(path)
    if about.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "it is a folder", address)
    return _state(about)


def _state(about: Mapping[str, Any]) -> State:
    size = int(about.get("size") or 0)
    tag = next((str(about[name]).strip('"') for name in _TAGS if about.get(name)), None)
    if tag is not None:
        return State(size, _number(tag), hashlib.sha256(f"{size} {tag}".encode()).hexdigest())
    written = next((about[name] for name in _TIMES if about.get(name)), 0)
    if isinstance(written, datetime):
        return State(size, int(written.timestamp() * 1e9), None)
    if isinstance(written, int | float):
        return State(size, int(written * 1e9), None)
    return State(size, _number(str(written)), None)


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)  # fits the 64 bits of columns for times


def download(address: str, file: Path, on_bytes: Callable[[int], object] = lambda count: None) -> None:
    """Copy an object into a local file.

    Args:
        address: of the object.
        file: the file to write; not atomic.
        on_bytes: called with the number of bytes so far; its errors end the download.

    Raises:
        OSError: if it cannot be read or written.
    """
    from fsspec.callbacks import Callback

    def count(size: int | None, value: int, **about: object) -> None:
        on_bytes(value)

    with _errors(address):
        files, path = _opened(address)
        files.get_file(path, str(file), callback=Callback(hooks={"count": count}))


def upload(file: Path, address: str) -> None:
    """Copy a local file into a store: the object appears whole, or not at all.

    Args:
        file: the file.
        address: of the object, which is replaced if it exists.

    Raises:
        OSError: if it cannot be written.
    """
    with _errors(address, "written"):
        files, path = _opened(address)
        # Stores make an object visible when all of it, or its last part, has come.
        files.put_file(str(file), path)


def check_address(address: str) -> None:
    """Refuse an address of a store whose package is missing, before the work begins.

    Args:
        address: of an object or a folder.

    Raises:
        ImportError: naming the package.
        PermissionError: if the operator has not allowed it.
        ValueError: if it is a chain of addresses, or names nothing.
    """
    _opened(address)


def _check_allowed(address: str) -> None:
    """Refuse an address that the operator of this process has not allowed.

    Raises:
        PermissionError: if `ALLOWED` names others only.
    """
    if (allowed := os.environ.get(ALLOWED)) is None:
        return
    scheme, _, rest = address.partition("://")
    normal = f"{scheme.lower()}://{posixpath.normpath(rest)}/"
    for entry in filter(None, map(str.strip, allowed.split(","))):
        kind, _, begin = entry.partition("://")
        if kind.lower() == scheme.lower() and normal.startswith(
            f"{kind.lower()}://{begin.strip('/')}/" if begin else ""
        ):
            return
    raise PermissionError(errno.EACCES, f"object stores are limited by {ALLOWED}={allowed}", address)


def _opened(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it."""
    import fsspec

    scheme, _, rest = address.partition("://")
    if "::" in address or not rest.strip("/"):
        raise ValueError(f"{address} names no file or folder: expected such as {scheme}://bucket/folder/file.")
    _check_allowed(address)
    try:
        files, path = fsspec.url_to_fs(f"{scheme.lower()}://{rest}")
    except ImportError as error:
        package = SCHEMES[scheme.lower()]
        raise ImportError(f"{scheme}:// needs the package {package}: pip install {package}") from error
    return files, str(path)


@contextmanager
def _errors(address: str, done: str = "read") -> Iterator[None]:
    """Raise whatever a store's package raises as an OSError that says in one line what is wrong."""
    try:
        yield
    except ImportError:
        raise
    except FileNotFoundError as error:
        said = "there is no such object" if done == "read" else "there is no such object or bucket"
        raise FileNotFoundError(errno.ENOENT, said, address) from error
    except PermissionError as error:
        if error.filename == address:  # `_check_allowed`
            raise
        said = f"the store refuses access ({reason_of(error)})"
        raise PermissionError(errno.EACCES, said, address) from error
    except Exception as error:
        # Each package has classes of its own, such as botocore's NoCredentialsError.
        if isinstance(error, ValueError | OSError) and type(error).__module__.startswith(("builtins", _PACKAGE)):
            raise
        if _LACKS_CREDENTIALS.search(f"{type(error).__name__} {error}"):
            said = f"the store wants credentials ({reason_of(error)})"
            raise PermissionError(errno.EACCES, said, address) from error
        raise OSError(errno.EIO, f"the store cannot be {done} ({reason_of(error)})", address) from error
